// What nvcc, NVRTC and a host compiler do not spell alike: function qualifiers, cached loads, half precision.
//
// No standard header is included on the device, because NVRTC has none.
#pragma once

#ifdef __CUDACC__
#define ESEG_FUNCTION __device__ inline
#else
#include <cmath>
#include <cstdint>
#include <cstring>
#define ESEG_FUNCTION inline
#endif

namespace eseg {

// A number of IEEE 754 binary16, as its bits.
struct Half {
    unsigned short bits;
};

#ifdef __CUDACC__

// Reads memory that no kernel writes meanwhile, through the read-only cache.
ESEG_FUNCTION unsigned char load(const unsigned char* address) { return __ldg(address); }
ESEG_FUNCTION float load(const float* address) { return __ldg(address); }
ESEG_FUNCTION Half load(const Half* address) { return {__ldg(&address->bits)}; }

ESEG_FUNCTION float to_float(Half value)
{
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

// Rounds to nearest, ties to even.
ESEG_FUNCTION Half to_half(float value)
{
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

#else

template <class Value>
Value load(const Value* address)
{
    return *address;
}

inline float to_float(Half value)
{
    const uint32_t sign = (value.bits & 0x8000u) << 16;
    const uint32_t magnitude = value.bits & 0x7fffu;
    uint32_t bits;
    if (magnitude < 0x0400u) {  // zero or subnormal
        const float multiple = std::ldexp(static_cast<float>(magnitude), -24);
        std::memcpy(&bits, &multiple, sizeof bits);
    } else if (magnitude < 0x7c00u) {
        bits = (magnitude << 13) + ((127u - 15u) << 23);
    } else {  // infinity or NaN
        bits = (magnitude << 13) | 0x7f800000u;
    }
    bits |= sign;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// Rounds to nearest, ties to even.
inline Half to_half(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
        return {0x7fff};  // the one NaN that the device gives
    }
    if (magnitude >= 0x47800000u) {  // 65536 and more
        result = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {  // normal; a carry out of the largest gives infinity
        const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
        result = (rounded - ((127u - 15u) << 23)) >> 13;
    } else {  // multiples of 2^-24, the 1024th of which is the least normal number
        result = static_cast<uint32_t>(std::rint(std::ldexp(std::fabs(value), 24)));
    }
    return {static_cast<unsigned short>(sign | result)};
}

#endif

ESEG_FUNCTION float to_float(float value) { return value; }

}  // namespace eseg
