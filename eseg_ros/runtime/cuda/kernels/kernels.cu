// The kernels of the device: one thread a pixel, in blocks of 32x8 (BLOCK of parameters.py). The work is done in the
// headers, which host.cpp runs on the CPU.

#include "postprocess.h"
#include "preprocess.h"

extern "C" __global__ void __launch_bounds__(256) eseg_preprocess(const eseg::PreprocessParameters p)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < p.tensor_width && y < p.tensor_height) {
        eseg::preprocess_pixel(p, x, y);
    }
}

extern "C" __global__ void __launch_bounds__(256) eseg_postprocess(const eseg::PostprocessParameters p)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < p.width && y < p.height) {
        eseg::postprocess_pixel(p, x, y);
    }
}
