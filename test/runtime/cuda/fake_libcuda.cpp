// A libcuda.so.1 without a GPU, so that the real pycuda and cuda.bindings can be imported and used in the tests.
//
// The signatures are those of cuda.h. Device memory is host memory. Whatever is enqueued, on whichever stream, is done
// in the order of the calls, by one thread, which is the device. As on a real one, what allocates or frees first waits
// until the device is idle. What is wrong is refused as strictly as CUDA may, more strictly than it always does.

#include <cuda.h>
#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "host.cpp"  // the kernels
#include "parameters.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Work = std::function<void()>;
using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

constexpr size_t MEMORY = size_t(1) << 30;
constexpr CUdevice DEVICE = 0;

struct Event {
    bool recorded = false;  // was ever to happen
    size_t ticket = 0;      // of the work that it comes after
    Clock::time_point time;
};

struct Stream {
    bool capturing = false;
    bool broken = false;
    std::vector<Work> nodes;
};

struct Kernel {
    void* module;
    void (*run)(const void*);
    size_t size;
};

struct Allocation {
    size_t size;
    bool host;
    bool mapped;
};

// Everything that exists; never destroyed, because the device may outlive the end of main.
struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::pair<size_t, Work>> queue;
    size_t enqueued = 0;
    size_t done = 0;
    CUresult lost = CUDA_SUCCESS;
    int retained = 0;
    std::map<char*, Allocation> memory;
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<void*> modules;
    std::set<Kernel*> kernels;
    std::set<std::vector<Work>*> graphs;      // captured
    std::set<std::vector<Work>*> executables;  // instantiated
};

State& state()
{
    static State* all = new State;
    return *all;
}

thread_local std::vector<CUcontext> stack;
thread_local Stream* captured = nullptr;  // by this thread
char context;                             // its address is the handle of the one context that there is

CUcontext primary() { return reinterpret_cast<CUcontext>(&context); }

void work()
{
    State& s = state();
    Lock lock(s.mutex);
    for (;;) {
        s.changed.wait(lock, [&] { return !s.queue.empty(); });
        auto [ticket, next] = std::move(s.queue.front());
        s.queue.pop_front();
        bool alive = s.lost == CUDA_SUCCESS;
        lock.unlock();
        if (alive) {
            next();
        }
        lock.lock();
        s.done = ticket;
        s.changed.notify_all();
    }
}

void enqueue(Work next)
{
    State& s = state();
    s.queue.emplace_back(++s.enqueued, std::move(next));
    s.changed.notify_all();
}

// On the stream: done at its turn, or kept for the graph.
void put(Stream* stream, Work next)
{
    if (stream->capturing) {
        stream->nodes.push_back(std::move(next));
    } else {
        enqueue(std::move(next));
    }
}

void wait_for(size_t ticket, Lock& lock)
{
    state().changed.wait(lock, [=] { return state().done >= ticket; });
}

CUresult usable()
{
    if (state().lost != CUDA_SUCCESS) {
        return state().lost;
    }
    return stack.empty() ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

// What is neither allowed in a capture nor done before the device is idle.
CUresult unsafe(Lock& lock)
{
    if (CUresult error = usable()) {
        return error;
    }
    if (captured != nullptr) {
        captured->broken = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    wait_for(state().enqueued, lock);
    return state().lost;
}

CUresult usable(CUstream handle, Stream*& stream)
{
    stream = reinterpret_cast<Stream*>(handle);
    if (CUresult error = usable()) {
        return error;
    }
    if (state().streams.count(stream) == 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    return stream->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

CUresult usable(CUevent handle, Event*& event)
{
    event = reinterpret_cast<Event*>(handle);
    if (CUresult error = usable()) {
        return error;
    }
    return state().events.count(event) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

// Whether all of these bytes belong to one allocation of the right kind; mapped memory is of both kinds.
bool lies(const void* start, size_t size, bool host)
{
    for (auto& [address, allocation] : state().memory) {
        if ((allocation.host == host || allocation.mapped) && address <= start && (char*)start + size <= address + allocation.size) {
            return true;
        }
    }
    return false;
}

CUresult allocate(size_t size, bool host, bool mapped, void** address)
{
    Lock lock(state().mutex);
    if (CUresult error = unsafe(lock)) {
        return error;
    }
    size_t used = size;
    for (auto& [_, allocation] : state().memory) {
        used += allocation.host ? 0 : allocation.size;
    }
    if (size == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!host && used > MEMORY) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *address = std::aligned_alloc(256, (size + 255) / 256 * 256);
    std::memset(*address, 0xA5, size);
    state().memory[(char*)*address] = {size, host, mapped};
    return CUDA_SUCCESS;
}

CUresult release(void* address, bool host)
{
    Lock lock(state().mutex);
    if (CUresult error = unsafe(lock)) {
        return error;
    }
    auto found = state().memory.find((char*)address);
    if (found == state().memory.end() || found->second.host != host) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::free(found->first);
    state().memory.erase(found);
    return CUDA_SUCCESS;
}

CUresult copy(void* to, const void* from, size_t size, bool in, CUstream handle)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    if (!lies(to, size, !in) || !lies(from, size, in)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    put(stream, [=] { std::memcpy(to, from, size); });
    return CUDA_SUCCESS;
}

CUresult load(CUmodule* module, const void* image)
{
    Lock lock(state().mutex);
    if (CUresult error = unsafe(lock)) {
        return error;
    }
    const unsigned char fatbin[] = {0x50, 0xED, 0x55, 0xBA};
    if (std::memcmp(image, fatbin, sizeof fatbin) != 0) {
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *module = (CUmodule)*state().modules.insert(new char).first;
    return CUDA_SUCCESS;
}

struct Name {
    CUresult code;
    const char *name, *text;
};

const Name NAMES[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
};

const Name* find(CUresult code)
{
    for (const Name& each : NAMES) {
        if (each.code == code) {
            return &each;
        }
    }
    return nullptr;
}

}  // namespace

// For the tests.

EXPORT void fake_lose_device()
{
    Lock lock(state().mutex);
    state().lost = CUDA_ERROR_ILLEGAL_ADDRESS;
}

// What exists, in words; nothing, if everything was freed.
EXPORT const char* fake_left()
{
    static std::string text;
    State& s = state();
    Lock lock(s.mutex);
    text.clear();
    std::pair<const char*, size_t> kinds[] = {
        {"context retained", s.retained}, {"context pushed", stack.size()},
        {"allocation", s.memory.size()},  {"stream", s.streams.size()},
        {"event", s.events.size()},       {"module", s.modules.size()},
        {"graph", s.graphs.size()},       {"executable graph", s.executables.size()},
    };
    for (auto [kind, count] : kinds) {
        if (count != 0) {
            text += std::to_string(count) + " x " + kind + "; ";
        }
    }
    return text.c_str();
}

// Device and context.

EXPORT CUresult cuInit(unsigned)
{
    static std::once_flag once;
    std::call_once(once, [] { std::thread(work).detach(); });
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int* version)
{
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int* count)
{
    *count = 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal)
{
    *device = ordinal;
    return ordinal == DEVICE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char* name, int size, CUdevice)
{
    std::strncpy(name, "Fake GPU", size);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem(size_t* bytes, CUdevice)
{
    *bytes = MEMORY;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice)
{
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 8; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 7; break;
        case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = 1; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice)
{
    *major = 8;
    *minor = 7;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice)
{
    Lock lock(state().mutex);
    if (state().lost != CUDA_SUCCESS) {
        return state().lost;
    }
    ++state().retained;
    *handle = primary();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice)
{
    Lock lock(state().mutex);
    if (state().retained == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    --state().retained;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice)
{
    State& s = state();
    Lock lock(s.mutex);
    wait_for(s.enqueued, lock);
    s.lost = CUDA_SUCCESS;
    s.memory.clear();  // the bytes stay: somebody may still look at page-locked ones
    s.streams.clear();
    s.events.clear();
    s.modules.clear();
    s.kernels.clear();
    s.graphs.clear();
    s.executables.clear();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent(CUcontext handle)
{
    Lock lock(state().mutex);
    if (handle != primary() || state().retained == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    stack.push_back(handle);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent(CUcontext* handle)
{
    if (stack.empty()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *handle = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize()
{
    Lock lock(state().mutex);
    return unsafe(lock);
}

// Memory.

EXPORT CUresult cuMemGetInfo(size_t* free, size_t* total)
{
    Lock lock(state().mutex);
    if (CUresult error = usable()) {
        return error;
    }
    *free = *total = MEMORY;
    for (auto& [_, allocation] : state().memory) {
        *free -= allocation.host ? 0 : allocation.size;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAlloc(CUdeviceptr* address, size_t size)
{
    return allocate(size, false, false, (void**)address);
}

EXPORT CUresult cuMemFree(CUdeviceptr address) { return release((void*)address, false); }

EXPORT CUresult cuMemHostAlloc(void** address, size_t size, unsigned flags)
{
    return allocate(size, true, flags & CU_MEMHOSTALLOC_DEVICEMAP, address);
}

EXPORT CUresult cuMemFreeHost(void* address) { return release(address, true); }

EXPORT CUresult cuMemHostGetDevicePointer(CUdeviceptr* device, void* address, unsigned)
{
    Lock lock(state().mutex);
    auto found = state().memory.find((char*)address);
    if (found == state().memory.end() || !found->second.mapped) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *device = (CUdeviceptr)address;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream stream)
{
    return copy((void*)to, from, size, true, stream);
}

EXPORT CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream stream)
{
    return copy(to, (const void*)from, size, false, stream);
}

// Streams and events.

EXPORT CUresult cuStreamCreate(CUstream* handle, unsigned flags)
{
    Lock lock(state().mutex);
    if (CUresult error = usable()) {
        return error;
    }
    if (flags != CU_STREAM_NON_BLOCKING) {
        return CUDA_ERROR_INVALID_VALUE;  // it would wait for the default stream, which nobody here wants
    }
    *handle = (CUstream)*state().streams.insert(new Stream).first;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy(CUstream handle)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    state().streams.erase(stream);
    delete stream;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned)
{
    Lock lock(state().mutex);
    Stream* stream;
    Event* event;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    if (CUresult error = usable(event_handle, event)) {
        return error;
    }
    if (stream->capturing && event->recorded) {
        stream->broken = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    return CUDA_SUCCESS;  // all that was recorded is done before what comes later anyway
}

EXPORT CUresult cuEventCreate(CUevent* handle, unsigned flags)
{
    Lock lock(state().mutex);
    if (CUresult error = usable()) {
        return error;
    }
    if ((flags & ~CU_EVENT_BLOCKING_SYNC) != 0) {
        return CUDA_ERROR_INVALID_VALUE;  // without timing or for other processes
    }
    *handle = (CUevent)*state().events.insert(new Event).first;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy(CUevent handle)
{
    Lock lock(state().mutex);
    Event* event;
    if (CUresult error = usable(handle, event)) {
        return error;
    }
    state().events.erase(event);  // its memory stays: work that is under way may write to it
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags)
{
    Lock lock(state().mutex);
    Stream* stream;
    Event* event;
    if (CUresult error = usable(stream_handle, stream)) {
        return error;
    }
    if (CUresult error = usable(handle, event)) {
        return error;
    }
    if (stream->capturing != (flags == CU_EVENT_RECORD_EXTERNAL)) {
        return CUDA_ERROR_INVALID_VALUE;  // CUDA captures a plain record as well, but then the event never happens
    }
    put(stream, [=] {
        event->recorded = true;
        event->time = Clock::now();
    });
    if (!stream->capturing) {
        event->recorded = true;
        event->ticket = state().enqueued;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream) { return cuEventRecordWithFlags(handle, stream, 0); }

EXPORT CUresult cuEventQuery(CUevent handle)
{
    Lock lock(state().mutex);
    Event* event;
    if (CUresult error = usable(handle, event)) {
        return error;
    }
    return event->ticket <= state().done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuEventSynchronize(CUevent handle)
{
    Lock lock(state().mutex);
    Event* event;
    if (CUresult error = usable(handle, event)) {
        return error;
    }
    wait_for(event->ticket, lock);
    return state().lost;
}

EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent start_handle, CUevent end_handle)
{
    Lock lock(state().mutex);
    Event *start, *end;
    if (CUresult error = usable(start_handle, start)) {
        return error;
    }
    if (CUresult error = usable(end_handle, end)) {
        return error;
    }
    if (!start->recorded || !end->recorded) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (start->ticket > state().done || end->ticket > state().done) {
        return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return CUDA_SUCCESS;
}

#undef cuEventElapsedTime  // its first version, which CUDA keeps
EXPORT CUresult first_cuEventElapsedTime(float*, CUevent, CUevent) __asm__("cuEventElapsedTime");
CUresult first_cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end)
{
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

EXPORT CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    put(stream, [=] { function(data); });
    return CUDA_SUCCESS;
}

// Modules and kernels.

EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) { return load(module, image); }

EXPORT CUresult cuModuleLoadDataEx(
    CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values)
{
    for (unsigned i = 0; i < count; ++i) {
        if (options[i] == CU_JIT_INFO_LOG_BUFFER || options[i] == CU_JIT_ERROR_LOG_BUFFER) {
            *(char*)values[i] = 0;
        } else if (
            options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
            values[i] = nullptr;  // nothing was logged
        }
    }
    return load(module, image);
}

EXPORT CUresult cuModuleUnload(CUmodule module)
{
    Lock lock(state().mutex);
    if (CUresult error = unsafe(lock)) {
        return error;
    }
    return state().modules.erase((void*)module) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name)
{
    using Run = void (*)(const void*);
    Lock lock(state().mutex);
    if (CUresult error = usable()) {
        return error;
    }
    if (state().modules.count((void*)module) == 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    Kernel kernel{(void*)module, (Run)eseg_preprocess_host, sizeof(eseg::PreprocessParameters)};
    if (std::strcmp(name, "eseg_postprocess") == 0) {
        kernel = {(void*)module, (Run)eseg_postprocess_host, sizeof(eseg::PostprocessParameters)};
    } else if (std::strcmp(name, "eseg_preprocess") != 0) {
        return CUDA_ERROR_NOT_FOUND;
    }
    *function = (CUfunction)*state().kernels.insert(new Kernel(kernel)).first;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }

EXPORT CUresult cuLaunchKernel(
    CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, unsigned, CUstream handle, void** arguments, void** extra)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    Kernel* kernel = (Kernel*)function;
    if (state().kernels.count(kernel) == 0 || state().modules.count(kernel->module) == 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (grid_x * grid_y * grid_z == 0 || block_x * block_y * block_z - 1 >= 1024) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    const void* struct_start = nullptr;
    if (arguments != nullptr) {
        struct_start = arguments[0];
    } else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER && extra[2] == CU_LAUNCH_PARAM_BUFFER_SIZE) {
        struct_start = *(size_t*)extra[3] == kernel->size ? extra[1] : nullptr;
    }
    if (struct_start == nullptr) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::shared_ptr<void> parameters(std::malloc(kernel->size), std::free);
    std::memcpy(parameters.get(), struct_start, kernel->size);
    put(stream, [run = kernel->run, parameters] { run(parameters.get()); });
    return CUDA_SUCCESS;
}

// Captures and graphs.

EXPORT CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    if (stream->capturing || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    stream->capturing = true;
    captured = stream;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph)
{
    Lock lock(state().mutex);
    Stream* stream;
    CUresult error = usable(handle, stream);
    *graph = nullptr;
    if (error != CUDA_SUCCESS && error != CUDA_ERROR_STREAM_CAPTURE_INVALIDATED) {
        return error;
    }
    if (!stream->capturing) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::unique_ptr<std::vector<Work>> nodes(new std::vector<Work>(std::move(stream->nodes)));
    *stream = Stream();
    captured = nullptr;
    if (error == CUDA_SUCCESS) {
        *graph = (CUgraph)*state().graphs.insert(nodes.release()).first;
    }
    return error;
}

EXPORT CUresult cuGraphInstantiate(CUgraphExec* executable, CUgraph graph, unsigned long long)
{
    Lock lock(state().mutex);
    auto* nodes = (std::vector<Work>*)graph;
    if (state().graphs.count(nodes) == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *executable = (CUgraphExec)*state().executables.insert(new std::vector<Work>(*nodes)).first;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph)
{
    Lock lock(state().mutex);
    return state().graphs.erase((std::vector<Work>*)graph) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable)
{
    Lock lock(state().mutex);
    if (CUresult error = usable()) {
        return error;
    }
    return state().executables.erase((std::vector<Work>*)executable) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle)
{
    Lock lock(state().mutex);
    Stream* stream;
    if (CUresult error = usable(handle, stream)) {
        return error;
    }
    auto* nodes = (std::vector<Work>*)executable;
    if (state().executables.count(nodes) == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (const Work& node : *nodes) {
        put(stream, node);
    }
    return CUDA_SUCCESS;
}

// Errors and entry points.

EXPORT CUresult cuGetErrorName(CUresult code, const char** text)
{
    const Name* found = find(code);
    *text = found ? found->name : nullptr;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** text)
{
    const Name* found = find(code);
    *text = found ? found->text : nullptr;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetProcAddress(
    const char* symbol, void** function, int, cuuint64_t, CUdriverProcAddressQueryResult* result)
{
    static void* self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *function = nullptr;
    for (const char* version : {"_v4", "_v3", "_v2", ""}) {  // the newest that there is
        if (*function == nullptr) {
            *function = dlsym(self, (std::string(symbol) + version).c_str());
        }
    }
    if (result != nullptr) {
        *result = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

// pycuda is linked to these as well, but nothing here calls them.

#define UNUSED(name)                                 \
    EXPORT CUresult unused_##name() __asm__(#name); \
    CUresult unused_##name() { return CUDA_ERROR_NOT_SUPPORTED; }

UNUSED(cuArray3DCreate_v2) UNUSED(cuArray3DGetDescriptor_v2) UNUSED(cuArrayCreate_v2) UNUSED(cuArrayDestroy)
UNUSED(cuArrayGetDescriptor_v2) UNUSED(cuCtxAttach) UNUSED(cuCtxCreate_v4) UNUSED(cuCtxDetach)
UNUSED(cuCtxDisablePeerAccess) UNUSED(cuCtxEnablePeerAccess) UNUSED(cuCtxGetApiVersion) UNUSED(cuCtxGetCacheConfig)
UNUSED(cuCtxGetDevice) UNUSED(cuCtxGetLimit) UNUSED(cuCtxGetSharedMemConfig) UNUSED(cuCtxSetCacheConfig)
UNUSED(cuCtxSetLimit) UNUSED(cuCtxSetSharedMemConfig) UNUSED(cuDeviceCanAccessPeer) UNUSED(cuDeviceGetByPCIBusId)
UNUSED(cuDeviceGetPCIBusId) UNUSED(cuFuncGetAttribute) UNUSED(cuFuncSetAttribute) UNUSED(cuFuncSetCacheConfig)
UNUSED(cuFuncSetSharedSize) UNUSED(cuIpcCloseMemHandle) UNUSED(cuIpcGetEventHandle) UNUSED(cuIpcGetMemHandle)
UNUSED(cuIpcOpenEventHandle) UNUSED(cuIpcOpenMemHandle_v2) UNUSED(cuLaunch) UNUSED(cuLaunchGrid)
UNUSED(cuLaunchGridAsync) UNUSED(cuLinkAddData_v2) UNUSED(cuLinkAddFile_v2) UNUSED(cuLinkComplete)
UNUSED(cuLinkCreate_v2) UNUSED(cuLinkDestroy) UNUSED(cuMemAllocManaged) UNUSED(cuMemAllocPitch_v2)
UNUSED(cuMemGetAddressRange_v2) UNUSED(cuMemHostGetFlags) UNUSED(cuMemHostRegister_v2) UNUSED(cuMemHostUnregister)
UNUSED(cuMemcpy2DAsync_v2) UNUSED(cuMemcpy2DUnaligned_v2) UNUSED(cuMemcpy2D_v2) UNUSED(cuMemcpy3DAsync_v2)
UNUSED(cuMemcpy3DPeer) UNUSED(cuMemcpy3DPeerAsync) UNUSED(cuMemcpy3D_v2) UNUSED(cuMemcpyAtoA_v2)
UNUSED(cuMemcpyAtoD_v2) UNUSED(cuMemcpyAtoH_v2) UNUSED(cuMemcpyDtoA_v2) UNUSED(cuMemcpyDtoDAsync_v2)
UNUSED(cuMemcpyDtoD_v2) UNUSED(cuMemcpyDtoH_v2) UNUSED(cuMemcpyHtoA_v2) UNUSED(cuMemcpyHtoD_v2) UNUSED(cuMemcpyPeer)
UNUSED(cuMemcpyPeerAsync) UNUSED(cuMemsetD16Async) UNUSED(cuMemsetD16_v2) UNUSED(cuMemsetD2D16Async)
UNUSED(cuMemsetD2D16_v2) UNUSED(cuMemsetD2D32Async) UNUSED(cuMemsetD2D32_v2) UNUSED(cuMemsetD2D8Async)
UNUSED(cuMemsetD2D8_v2) UNUSED(cuMemsetD32Async) UNUSED(cuMemsetD32_v2) UNUSED(cuMemsetD8Async) UNUSED(cuMemsetD8_v2)
UNUSED(cuModuleGetGlobal_v2) UNUSED(cuModuleGetSurfRef) UNUSED(cuModuleGetTexRef) UNUSED(cuModuleLoad)
UNUSED(cuParamSetSize) UNUSED(cuParamSetTexRef) UNUSED(cuParamSetf) UNUSED(cuParamSeti) UNUSED(cuParamSetv)
UNUSED(cuProfilerInitialize) UNUSED(cuProfilerStart) UNUSED(cuProfilerStop) UNUSED(cuStreamAttachMemAsync)
UNUSED(cuStreamQuery) UNUSED(cuStreamSynchronize) UNUSED(cuSurfRefGetArray) UNUSED(cuSurfRefSetArray)
UNUSED(cuTexRefCreate) UNUSED(cuTexRefDestroy) UNUSED(cuTexRefGetAddressMode) UNUSED(cuTexRefGetAddress_v2)
UNUSED(cuTexRefGetArray) UNUSED(cuTexRefGetFilterMode) UNUSED(cuTexRefGetFlags) UNUSED(cuTexRefGetFormat)
UNUSED(cuTexRefSetAddress2D_v3) UNUSED(cuTexRefSetAddressMode) UNUSED(cuTexRefSetAddress_v2) UNUSED(cuTexRefSetArray)
UNUSED(cuTexRefSetFilterMode) UNUSED(cuTexRefSetFlags) UNUSED(cuTexRefSetFormat)
