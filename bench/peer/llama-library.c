/* llama.cpp's own speed: the shared libraries inside @node-llama-cpp/linux-x64 3.22.1 from plain C, without Node.
 *   gcc -O2 -o llama-library llama-library.c -ldl
 *   taskset -c 0 ./llama-library LIBDIR/ MODEL THREADS REPEATS        -> one JSON line, the same fields as llama-node.mjs
 *   ... long                 -> prefill_long (1,024 tokens) and batch (8 sequences of 16 tokens that write 64 each) too
 *   ... clients              -> only clients: tokens a second of 8 sequences of 120 tokens that write 64 each, prompts included
 * There is no header in the package, so parameter structs come opaque from *_default_params() and are passed back by
 * value; only n_ctx, n_batch, n_ubatch and n_seq_max, the first four fields of the context's, are set, after checking defaults. */
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
enum { PREFILL_LONG = 1024, SEQUENCES = 8, CONTEXT_LONG = 2048, CLIENT_PROMPT = 120 };

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

static void print_rates(const char *name, const double *rates, int count) {
    printf("\"%s\":[", name);
    for (int i = 0; i < count; i++) printf("%s%.3f", i ? "," : "", rates[i]);
    printf("],");
}

/* Tokens at `position` on of each sequence, `each` of them; logits after the last of each. */
static batch sequences(int each, int position, int vocabulary) {
    enum { MOST = SEQUENCES * CLIENT_PROMPT };
    static int32_t token[MOST], pos[MOST], count[MOST], ids[SEQUENCES], *id[MOST];
    static int8_t wanted[MOST];
    int n = 0;
    for (int s = 0; s < SEQUENCES; s++)
        for (int i = 0; i < each; i++, n++) {
            token[n] = rand() % vocabulary, pos[n] = position + i, count[n] = 1, ids[s] = s, id[n] = &ids[s];
            wanted[n] = i == each - 1;
        }
    return (batch){n, token, NULL, pos, count, id, wanted};
}

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "usage: llama-library LIBDIR/ MODEL THREADS REPEATS [long | clients]\n"), 2;
    bool is_long = argc > 5 && !strcmp(argv[5], "long"), is_clients = argc > 5 && !strcmp(argv[5], "clients");
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
    if (field[0] != 512 || field[1] != 2048 || field[2] != 512 || field[3] != 1)
        return fprintf(stderr, "context defaults are %u %u %u %u, expected 512 2048 512 1\n", field[0], field[1], field[2], field[3]), 1;
    if (is_clients) field[3] = SEQUENCES;
    if (is_long || is_clients) field[0] = CONTEXT_LONG;
    else field[0] = field[1] = field[2] = CONTEXT;
    void *context = ((void *(*)(void *, params))symbol(llama, "llama_init_from_model"))(model, context_params);
    if (!context) return fprintf(stderr, "could not make a context\n"), 1;
    void (*set_threads)(void *, int, int) = symbol(llama, "llama_set_n_threads");
    set_threads(context, threads, threads);

    batch (*one)(int32_t *, int32_t) = symbol(llama, "llama_batch_get_one");
    int (*decode)(void *, batch) = symbol(llama, "llama_decode");
    float *(*logits)(void *, int) = symbol(llama, "llama_get_logits_ith");
    void *memory = ((void *(*)(void *))symbol(llama, "llama_get_memory"))(context);
    void (*clear)(void *, bool) = symbol(llama, "llama_memory_clear");
    int vocabulary = ((int (*)(const void *))symbol(llama, "llama_vocab_n_tokens"))(
        ((const void *(*)(const void *))symbol(llama, "llama_model_get_vocab"))(model));

    if (is_clients) {
        double rates[MAX_REPEATS];
        volatile float last;
        srand(1);
        for (int repeat = -1; repeat < repeats; repeat++) { /* the first one warms up */
            clear(memory, true);
            double before = seconds();
            for (int i = 0; i < DECODE; i++) { /* the first tokens come out of the prompts' logits */
                int each = i == 0 ? CLIENT_PROMPT : 1;
                if (decode(context, sequences(each, i == 0 ? 0 : CLIENT_PROMPT + i - 1, vocabulary))) return 1;
                for (int s = 0; s < SEQUENCES; s++) last = logits(context, (s + 1) * each - 1)[0];
            }
            if (repeat >= 0) rates[repeat] = SEQUENCES * DECODE / (seconds() - before);
        }
        (void)last;
        printf("{");
        print_rates("clients", rates, repeats);
        printf("\"memory_bytes\":%ld}\n", resident_bytes());
        fflush(stdout);
        _exit(0);
    }

    int32_t tokens[PREFILL_LONG];
    double prefill[MAX_REPEATS], decoded[MAX_REPEATS], prefill_long[MAX_REPEATS], together[MAX_REPEATS];
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
    for (int repeat = 0; is_long && repeat < repeats; repeat++) {
        for (int i = 0; i < PREFILL_LONG; i++) tokens[i] = rand() % vocabulary;
        clear(memory, true);
        double before = seconds();
        if (decode(context, one(tokens, PREFILL_LONG))) return 1;
        seen = logits(context, -1)[0];
        prefill_long[repeat] = PREFILL_LONG / (seconds() - before);
    }
    long resident = resident_bytes();
    if (is_long) {
        field[3] = SEQUENCES;
        context = ((void *(*)(void *, params))symbol(llama, "llama_init_from_model"))(model, context_params);
        if (!context) return fprintf(stderr, "could not make a context of %d sequences\n", SEQUENCES), 1;
        set_threads(context, threads, threads);
        memory = ((void *(*)(void *))symbol(llama, "llama_get_memory"))(context);
        for (int repeat = 0; repeat < repeats; repeat++) {
            clear(memory, true);
            if (decode(context, sequences(COLD_PROMPT, 0, vocabulary))) return 1;
            double before = seconds();
            for (int i = 0; i < DECODE; i++) {
                if (decode(context, sequences(1, COLD_PROMPT + i, vocabulary))) return 1;
                for (int s = 0; s < SEQUENCES; s++) seen = logits(context, s)[0];
            }
            together[repeat] = SEQUENCES * DECODE / (seconds() - before);
        }
    }
    (void)seen;
    printf("{");
    print_rates("prefill", prefill, repeats);
    print_rates("decode", decoded, repeats);
    if (is_long) print_rates("prefill_long", prefill_long, repeats), print_rates("batch", together, repeats);
    printf("\"first_token_ms\":%.1f,\"memory_bytes\":%ld}\n", first_token_ms, resident);
    fflush(stdout);
    _exit(0); /* the library's destructors are not of interest */
}
