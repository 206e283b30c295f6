/* A stand-in of CUDA's runtime library: the calls edge_seg/backends/cudart.py makes, on ordinary
 * memory. Work given to a stream waits until cudaStreamSynchronize, so that reading too early shows.
 * A broken rule adds a line to what standin_broken() returns. One thread at a time is enough: the
 * caller holds Python's lock only between calls, so a mutex guards the tables. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*work)(long);
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, LAUNCH_FAILURE = 719 };
enum { MEMORY = 512, QUEUE = 512, STREAMS = 64 };
struct piece { char *at; size_t size; int device; };
struct job { void *to; const void *from; size_t size; work run; long argument; };
struct stream { int open, count; struct job jobs[QUEUE]; };

static struct piece pieces[MEMORY];
static struct stream streams[STREAMS];
static char broken[8192];
static int devices = 1, lost, left = -1; /* left: allocations that still succeed; -1 for all */
static int multiprocessors = 8;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void rule(const char *text) {
    if (strlen(broken) + strlen(text) + 2 < sizeof broken) strcat(strcat(broken, text), "\n");
}
static struct piece *find(const void *at) {
    for (int i = 0; i < MEMORY; i++)
        if (pieces[i].at && (const char *)at >= pieces[i].at &&
            (const char *)at < pieces[i].at + pieces[i].size) return &pieces[i];
    return NULL;
}
static int allocate(void **out, size_t size, int device) {
    int code = OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    if (left != 0)
        for (int i = 0; i < MEMORY && code; i++)
            if (!pieces[i].at) {
                pieces[i] = (struct piece){malloc(size), size, device};
                memset(pieces[i].at, 0x7f, size); /* nothing useful before it was written */
                *out = pieces[i].at;
                if (left > 0) left--;
                code = SUCCESS;
            }
    pthread_mutex_unlock(&lock);
    return code;
}
static int release(void *at, int device, const char *what) {
    pthread_mutex_lock(&lock);
    struct piece *found = find(at);
    if (!found || found->at != at || found->device != device) rule(what);
    else { free(found->at); found->at = NULL; }
    pthread_mutex_unlock(&lock);
    return lost ? LAUNCH_FAILURE : SUCCESS;
}
static struct stream *opened(void *handle) {
    long number = (long)handle - 1;
    if (number < 0 || number >= STREAMS || !streams[number].open) {
        rule("work was given to a stream that is not open (or to the default stream)");
        return NULL;
    }
    return &streams[number];
}
static int give(void *handle, struct job job) {
    int code = INVALID_VALUE;
    pthread_mutex_lock(&lock);
    struct stream *stream = opened(handle);
    if (stream && stream->count < QUEUE) { stream->jobs[stream->count++] = job; code = SUCCESS; }
    pthread_mutex_unlock(&lock);
    return code;
}

int cudaGetDeviceCount(int *count) { *count = devices; return devices ? SUCCESS : NO_DEVICE; }
int cudaGetDeviceProperties(void *out, int device) {
    memset(out, 0, 1032);
    strcpy(out, "Stand-in GPU");
    return device == 0 ? SUCCESS : INVALID_VALUE;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    /* compute capability 8.7, and as many multiprocessors as a test says */
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? multiprocessors : -1;
    return device == 0 && *value >= 0 ? SUCCESS : INVALID_VALUE;
}
int cudaMalloc(void **out, size_t size) { return allocate(out, size, 1); }
int cudaHostAlloc(void **out, size_t size, unsigned flags) {
    if (flags != 0) rule("cudaHostAlloc: flags this program has no use for");
    return allocate(out, size, 0);
}
int cudaFree(void *at) { return release(at, 1, "cudaFree of what cudaMalloc did not give"); }
int cudaFreeHost(void *at) { return release(at, 0, "cudaFreeHost of what cudaHostAlloc did not give"); }
int cudaStreamCreateWithFlags(void **out, unsigned flags) {
    if (flags != 1) rule("wanted cudaStreamNonBlocking");
    pthread_mutex_lock(&lock);
    int code = OUT_OF_MEMORY;
    for (long i = 0; i < STREAMS && code; i++)
        if (!streams[i].open) { streams[i].open = 1; streams[i].count = 0; *out = (void *)(i + 1); code = SUCCESS; }
    pthread_mutex_unlock(&lock);
    return code;
}
int cudaStreamSynchronize(void *handle) {
    pthread_mutex_lock(&lock);
    struct stream *stream = opened(handle);
    pthread_mutex_unlock(&lock);
    if (!stream) return INVALID_VALUE;
    int count = stream->count;
    stream->count = 0;
    if (lost) return LAUNCH_FAILURE;
    for (int i = 0; i < count; i++) {
        struct job *job = &stream->jobs[i];
        if (job->run) job->run(job->argument);
        else memcpy(job->to, job->from, job->size);
    }
    return SUCCESS;
}
int cudaStreamDestroy(void *handle) {
    pthread_mutex_lock(&lock);
    struct stream *stream = opened(handle);
    if (stream && stream->count) rule("a stream was destroyed with work in it");
    if (stream) stream->open = 0;
    pthread_mutex_unlock(&lock);
    return lost ? LAUNCH_FAILURE : SUCCESS;
}
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *handle) {
    pthread_mutex_lock(&lock);
    struct piece *target = find(to), *source = find(from);
    if (!target || !source) rule("a copy from or to memory CUDA did not give (not page-locked)");
    else if (target->at + target->size < (char *)to + size || source->at + source->size < (char *)from + size)
        rule("a copy of more than there is");
    else if (!(kind == 1 && target->device && !source->device) && !(kind == 2 && !target->device && source->device))
        rule("a copy in another direction than its kind says");
    pthread_mutex_unlock(&lock);
    return give(handle, (struct job){.to = to, .from = from, .size = size});
}
const char *cudaGetErrorString(int code) {
    return code == OUT_OF_MEMORY ? "out of memory" : code == NO_DEVICE ? "no CUDA-capable device is detected"
         : code == LAUNCH_FAILURE ? "unspecified launch failure" : "invalid argument";
}

/* For the stand-in of TensorRT and for tests. */
int standin_launch(void *handle, work run, long argument) {
    return give(handle, (struct job){.run = run, .argument = argument});
}
size_t standin_room(const void *at) { /* bytes from an address on, of the GPU's memory; 0 elsewhere */
    struct piece *found = find(at);
    return found && found->device ? found->size - ((char *)at - found->at) : 0;
}
const char *standin_broken(void) { return broken; }
int standin_held(void) { /* pieces of memory and streams not given back */
    int count = 0;
    for (int i = 0; i < MEMORY; i++) count += pieces[i].at != NULL;
    for (int i = 0; i < STREAMS; i++) count += streams[i].open;
    return count;
}
void standin_multiprocessors(int count) { multiprocessors = count; }
void standin_reset(int gpus, int allocations) {
    multiprocessors = 8;
    for (int i = 0; i < MEMORY; i++) { free(pieces[i].at); pieces[i].at = NULL; }
    memset(streams, 0, sizeof streams);
    broken[0] = 0; devices = gpus; left = allocations; lost = 0;
}
void standin_lose(void) { lost = 1; }
