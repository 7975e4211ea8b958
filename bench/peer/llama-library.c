/* llama.cpp's own speed: the shared libraries inside @node-llama-cpp/linux-x64 3.22.1 from plain C, without Node.
 *   gcc -O2 -o llama-library llama-library.c -ldl
 *   taskset -c 0 ./llama-library LIBDIR/ MODEL THREADS REPEATS        -> one JSON line, the same fields as llama-node.mjs
 * There is no header in the package, so parameter structs come opaque from *_default_params() and are passed back by
 * value; only n_ctx, n_batch and n_ubatch, the first three fields of the context's, are set, after checking defaults. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PREFILL = 128, DECODE = 64, COLD_PROMPT = 16, CONTEXT = 512, MAX_REPEATS = 64 };

typedef struct { uint64_t words[512]; } params; /* larger than any parameter struct of the library */
typedef struct {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos, *n_seq_id, **seq_id;
    int8_t *logits;
} batch;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void no_log(int level, const char *text, void *data) { (void)level, (void)text, (void)data; }

static void *open_library(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", folder, name);
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) fprintf(stderr, "%s\n", dlerror()), exit(1);
    return handle;
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) fprintf(stderr, "library has no %s\n", name), exit(1);
    return found;
}

static long resident_bytes(void) {
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &total, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "usage: llama-library LIBDIR/ MODEL THREADS REPEATS\n"), 2;
    const char *folder = argv[1], *file = argv[2];
    int threads = atoi(argv[3]), repeats = atoi(argv[4]);
    if (repeats > MAX_REPEATS) repeats = MAX_REPEATS;

    open_library(folder, "libggml-base.so");
    void *ggml = open_library(folder, "libggml.v0.5.0.so"), *llama = open_library(folder, "libllama.v0.5.0.so");
    ((void (*)(void *, void *))symbol(llama, "llama_log_set"))(no_log, NULL);
    ((void (*)(const char *))symbol(ggml, "ggml_backend_load_all_from_path"))(folder);
    ((void (*)(void))symbol(llama, "llama_backend_init"))();

    double started = seconds();
    params model_params = ((params(*)(void))symbol(llama, "llama_model_default_params"))();
    void *model = ((void *(*)(const char *, params))symbol(llama, "llama_model_load_from_file"))(file, model_params);
    if (!model) return fprintf(stderr, "could not load %s\n", file), 1;
    params context_params = ((params(*)(void))symbol(llama, "llama_context_default_params"))();
    uint32_t *field = (uint32_t *)&context_params;
    if (field[0] != 512 || field[1] != 2048 || field[2] != 512)
        return fprintf(stderr, "context defaults are %u %u %u, expected 512 2048 512\n", field[0], field[1], field[2]), 1;
    field[0] = field[1] = field[2] = CONTEXT;
    void *context = ((void *(*)(void *, params))symbol(llama, "llama_init_from_model"))(model, context_params);
    if (!context) return fprintf(stderr, "could not make a context\n"), 1;
    ((void (*)(void *, int, int))symbol(llama, "llama_set_n_threads"))(context, threads, threads);

    batch (*one)(int32_t *, int32_t) = symbol(llama, "llama_batch_get_one");
    int (*decode)(void *, batch) = symbol(llama, "llama_decode");
    float *(*logits)(void *, int) = symbol(llama, "llama_get_logits_ith");
    void *memory = ((void *(*)(void *))symbol(llama, "llama_get_memory"))(context);
    void (*clear)(void *, bool) = symbol(llama, "llama_memory_clear");
    int vocabulary = ((int (*)(const void *))symbol(llama, "llama_vocab_n_tokens"))(
        ((const void *(*)(const void *))symbol(llama, "llama_model_get_vocab"))(model));

    int32_t tokens[PREFILL];
    double prefill[MAX_REPEATS], decoded[MAX_REPEATS];
    volatile float seen;
    srand(1);
    for (int i = 0; i < COLD_PROMPT; i++) tokens[i] = rand() % vocabulary;
    if (decode(context, one(tokens, COLD_PROMPT))) return 1;
    seen = logits(context, -1)[0];
    double first_token_ms = (seconds() - started) * 1000;

    for (int repeat = -1; repeat < repeats; repeat++) { /* the first one warms up */
        for (int i = 0; i < PREFILL; i++) tokens[i] = rand() % vocabulary;
        clear(memory, true);
        double before = seconds();
        if (decode(context, one(tokens, PREFILL))) return 1;
        seen = logits(context, -1)[0];
        double between = seconds();
        for (int i = 0; i < DECODE; i++) {
            tokens[0] = rand() % vocabulary;
            if (decode(context, one(tokens, 1))) return 1;
            seen = logits(context, -1)[0];
        }
        double after = seconds();
        if (repeat < 0) continue;
        prefill[repeat] = PREFILL / (between - before);
        decoded[repeat] = DECODE / (after - between);
    }
    (void)seen;
    printf("{\"prefill\":[");
    for (int i = 0; i < repeats; i++) printf("%s%.3f", i ? "," : "", prefill[i]);
    printf("],\"decode\":[");
    for (int i = 0; i < repeats; i++) printf("%s%.3f", i ? "," : "", decoded[i]);
    printf("],\"first_token_ms\":%.1f,\"memory_bytes\":%ld}\n", first_token_ms, resident_bytes());
    fflush(stdout);
    _exit(0); /* the library's destructors are not of interest */
}
