/* Names what is in a picture, with a plan and nothing but the fleetfoot library.
 *
 *     fleetfoot compile mobileone_s0 --output mobileone_s0.plan
 *     package=$(python -c 'import fleetfoot.runtime as r; print(r.library_path().parent.parent)')
 *     cc -O2 -I$package/include examples/classify.c -o classify $package/_native/libfleetfoot.so \
 *        -Wl,-rpath,$package/_native -lm
 *     ./classify mobileone_s0.plan picture.ppm
 *
 * The picture is a binary PPM (P6, 8 bits), already cut to the size that the plan takes, as by
 * `convert photo.jpg -resize 224x224^ -gravity center -extent 224x224 picture.ppm`; or, where its name
 * ends in .raw, what the network takes as it is: float32 (3, H, W) in the machine's byte order.
 *
 * One line each for the five likeliest classes: the index and the probability. Exit code 1, and a line on
 * stderr, where something cannot be used.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fleetfoot.h>

enum { CHANNELS = 3, BEST = 5 };

/* Of ImageNet's training pictures, in units of the full range; what most networks were trained with.
 * `fleetfoot predict` knows those that want others. */
static const float MEAN[CHANNELS] = {0.485f, 0.456f, 0.406f};
static const float DEVIATION[CHANNELS] = {0.229f, 0.224f, 0.225f};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "classify: %s: %s\n", what, why);
    exit(1);
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory) fail("memory", "there is not enough");
    return memory;
}

/* A number of a PPM's header: behind white space and comments, and followed by one white space. */
static int64_t header_number(FILE *file, const char *path) {
    int c = getc(file);
    while (c == '#' || c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(file);
        c = getc(file);
    }
    int64_t number = 0;
    int digits = 0;
    for (; c >= '0' && c <= '9' && digits < 9; ++digits, c = getc(file)) number = number * 10 + (c - '0');
    if (!digits || !(c == ' ' || c == '\t' || c == '\n' || c == '\r')) fail(path, "is no binary PPM (P6)");
    return number;
}

/* (H, W, 3) bytes -> (3, H, W) floats, less the mean and over the deviation. */
static void read_ppm(FILE *file, const char *path, int64_t height, int64_t width, float *picture) {
    if (getc(file) != 'P' || getc(file) != '6') fail(path, "is no binary PPM (P6)");
    const int64_t found_width = header_number(file, path);
    const int64_t found_height = header_number(file, path);
    if (header_number(file, path) != 255) fail(path, "has other than 8 bits a channel");
    if (found_width != width || found_height != height) {
        char why[128];
        snprintf(why, sizeof why, "is %lld x %lld pixels, and the plan takes %lld x %lld",
                 (long long)found_width, (long long)found_height, (long long)width, (long long)height);
        fail(path, why);
    }
    const int64_t pixels = height * width;
    uint8_t *bytes = allocate((size_t)(pixels * CHANNELS));
    if (fread(bytes, CHANNELS, (size_t)pixels, file) != (size_t)pixels) fail(path, "is cut short");
    for (int c = 0; c < CHANNELS; ++c)
        for (int64_t i = 0; i < pixels; ++i)
            picture[c * pixels + i] = ((float)bytes[i * CHANNELS + c] / 255.0f - MEAN[c]) / DEVIATION[c];
    free(bytes);
}

static void read_raw(FILE *file, const char *path, int64_t count, float *picture) {
    if (fread(picture, sizeof(float), (size_t)count, file) != (size_t)count || getc(file) != EOF) {
        char why[96];
        snprintf(why, sizeof why, "does not hold the %lld floats that the plan takes", (long long)count);
        fail(path, why);
    }
}

static float *read_picture(const char *path, const int64_t *shape) {
    const int64_t count = shape[0] * shape[1] * shape[2];
    float *picture = allocate((size_t)count * sizeof(float));
    FILE *file = fopen(path, "rb");
    if (!file) fail(path, "cannot be opened");
    const char *dot = strrchr(path, '.');
    if (dot && !strcmp(dot, ".raw"))
        read_raw(file, path, count, picture);
    else
        read_ppm(file, path, shape[1], shape[2], picture);
    fclose(file);
    return picture;
}

/* Scores -> probabilities, in place. The largest score is taken off first, so that exp cannot overflow. */
static void softmax(float *scores, int64_t classes) {
    float largest = scores[0];
    for (int64_t i = 1; i < classes; ++i) largest = fmaxf(largest, scores[i]);
    double sum = 0;
    for (int64_t i = 0; i < classes; ++i) sum += scores[i] = expf(scores[i] - largest);
    for (int64_t i = 0; i < classes; ++i) scores[i] = (float)(scores[i] / sum);
}

static void print_best(const float *probabilities, int64_t classes) {
    int64_t printed[BEST];
    for (int rank = 0; rank < BEST && rank < classes; ++rank) {
        int64_t best = -1;
        for (int64_t i = 0; i < classes; ++i) {
            int taken = 0;
            for (int r = 0; r < rank; ++r) taken |= printed[r] == i;
            if (!taken && (best < 0 || probabilities[i] > probabilities[best])) best = i;
        }
        printed[rank] = best;
        printf("%lld %.6f\n", (long long)best, probabilities[best]);
    }
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: %s PLAN PICTURE [THREADS]\n", argv[0]);
        return 1;
    }
    ff_plan *plan;
    if (ff_plan_load(argv[1], &plan)) fail(argv[1], ff_last_error());
    if (ff_plan_input_count(plan) != 1 || ff_plan_input_rank(plan, 0) != 3 ||
        ff_plan_input_shape(plan, 0)[0] != CHANNELS)
        fail(argv[1], "does not take one picture of three channels");
    if (ff_plan_output_count(plan) != 1 || ff_plan_output_rank(plan, 0) != 1)
        fail(argv[1], "is no classifier");
    const int64_t classes = ff_plan_output_shape(plan, 0)[0];

    const ff_context_options options = {argc == 4 ? atoi(argv[3]) : 1, NULL};
    ff_context *context;
    if (ff_context_create(plan, &options, &context)) fail(argv[1], ff_last_error());

    float *picture = read_picture(argv[2], ff_plan_input_shape(plan, 0));
    float *scores = allocate((size_t)classes * sizeof(float));
    const float *inputs[] = {picture};
    float *outputs[] = {scores};
    if (ff_context_run(context, inputs, outputs, 1)) fail(argv[1], ff_last_error());
    softmax(scores, classes);
    print_best(scores, classes);

    free(scores);
    free(picture);
    ff_context_free(context);
    ff_plan_free(plan);
    return 0;
}
