// The kernels on the CPU, pixel after pixel, for the tests: all addresses are host pointers.

#include "postprocess.h"
#include "preprocess.h"

extern "C" void eseg_preprocess_host(const eseg::PreprocessParameters* p)
{
    for (int y = 0; y < p->tensor_height; ++y) {
        for (int x = 0; x < p->tensor_width; ++x) {
            eseg::preprocess_pixel(*p, x, y);
        }
    }
}

extern "C" void eseg_postprocess_host(const eseg::PostprocessParameters* p)
{
    for (int y = 0; y < p->height; ++y) {
        for (int x = 0; x < p->width; ++x) {
            eseg::postprocess_pixel(*p, x, y);
        }
    }
}
