/* decode FILE.tfit: tells what is in the file, decodes it whole and by a region, checks that they agree, and prints the
 * CRC-32 of the samples. Shows each kind of failure as well. */
#include "../tilefit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t crc32(const uint8_t *p, size_t n) {
    uint32_t c = 0xffffffffu;
    while (n--) {
        c ^= *p++;
        for (int i = 0; i < 8; i++) c = c & 1 ? (c >> 1) ^ 0xedb88320u : c >> 1;
    }
    return ~c;
}

/* The digest of samples: of two bytes, the lower first, where `depth` is over 8, on any machine. */
static uint32_t digest(const uint8_t *samples, size_t n, uint32_t depth) {
    if (depth <= 8) return crc32(samples, n);
    uint8_t *bytes = malloc(n);
    if (!bytes) return 0;
    for (size_t i = 0; i < n; i += 2) {
        uint16_t s;
        memcpy(&s, samples + i, 2);
        bytes[i] = (uint8_t)(s & 255);
        bytes[i + 1] = (uint8_t)(s >> 8);
    }
    uint32_t c = crc32(bytes, n);
    free(bytes);
    return c;
}

static uint8_t *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    uint8_t *data = NULL;
    size_t held = 0, n;
    do {
        uint8_t *more = realloc(data, held + 65536);
        if (!more) {
            free(data);
            fclose(f);
            return NULL;
        }
        data = more;
        n = fread(data + held, 1, 65536, f);
        held += n;
    } while (n > 0);
    fclose(f);
    *size = held;
    return data;
}

int main(int argc, char **argv) {
    char error[200];
    size_t size;
    uint8_t *data = argc == 2 ? read_file(argv[1], &size) : NULL;
    if (!data) {
        fprintf(stderr, "usage: decode FILE.tfit\n");
        return 2;
    }

    struct tilefit_picture_info info;
    int status = tilefit_info(data, size, 0, &info, error, sizeof error);
    if (status != TILEFIT_OK) {
        fprintf(stderr, "%s\n", error);
        return status;
    }
    printf("%ux%u, %u channels, %u pictures\n", info.width, info.height, info.channels, info.pictures);
    printf("%u bits%s\n", info.depth, info.alpha ? ", alpha" : "");

    size_t pixel = info.channels * (info.depth > 8 ? 2 : 1);
    size_t n = (size_t)info.width * info.height * pixel;
    uint8_t *whole = malloc(n), *part = malloc(n);
    if (!whole || !part) return 1;
    status = tilefit_decode(data, size, 0, 0, NULL, whole, n, error, sizeof error);
    if (status != TILEFIT_OK) {
        fprintf(stderr, "%s\n", error);
        return status;
    }
    printf("digest %08x, promised %08x\n", digest(whole, n, info.depth), info.digest);

    size_t length, icc;
    for (uint32_t kind = TILEFIT_ICC; kind <= TILEFIT_CICP; kind++) {
        status = tilefit_metadata(data, size, 0, kind, part, n, &length, error, sizeof error);
        if (status != TILEFIT_OK) {
            fprintf(stderr, "%s\n", error);
            return status;
        }
        printf("metadata %u: %zu bytes, %08x\n", kind, length, crc32(part, length));
        if (kind == TILEFIT_ICC) icc = length;
    }

    /* The lower right quarter. */
    size_t x = info.width / 2, y = info.height / 2, w = info.width - x, h = info.height - y;
    status = tilefit_decode_region(data, size, 0, 0, x, y, w, h, NULL, part, n, error, sizeof error);
    if (status != TILEFIT_OK) {
        fprintf(stderr, "%s\n", error);
        return status;
    }
    int same = 1;
    for (size_t row = 0; row < h; row++) {
        const uint8_t *from = whole + ((y + row) * info.width + x) * pixel;
        same &= memcmp(part + row * w * pixel, from, w * pixel) == 0;
    }
    printf("region %s\n", same ? "agrees" : "DIFFERS");

    struct tilefit_limits limits = {10, 1 << 30, (uint64_t)1 << 40};
    status = tilefit_decode(data, size, 0, 0, &limits, whole, n, error, sizeof error);
    printf("limit: %d %s\n", status, error);
    status = tilefit_decode(data, size, 0, 0, NULL, whole, n - 1, error, sizeof error);
    printf("buffer: %d %s\n", status, error);
    status = tilefit_decode(data, size, 9, 0, NULL, whole, n, error, sizeof error);
    printf("picture: %d %s\n", status, error);
    status = tilefit_decode_region(data, size, 0, 0, x, y, w + 1, h, NULL, part, n, error, sizeof error);
    printf("region: %d %s\n", status, error);
    status = tilefit_decode(NULL, 5, 0, 0, NULL, whole, n, error, 12);
    printf("null: %d %s\n", status, error);
    status = tilefit_metadata(data, size, 0, TILEFIT_ICC, NULL, 0, &length, error, sizeof error);
    printf("length alone: %d %s\n", status, length == icc ? "agrees" : "DIFFERS");
    data[size - 1] ^= 1;
    status = tilefit_decode(data, size, 0, 0, NULL, whole, n, error, sizeof error);
    printf("damaged: %d %s\n", status, error);

    free(whole);
    free(part);
    free(data);
    return same ? 0 : 1;
}
