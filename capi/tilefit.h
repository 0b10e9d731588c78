/* The Tilefit decoder. All functions may be called from any thread; nothing is kept between calls, nothing has to be
 * freed. Link libtilefit_capi.a (`make capi` builds it), and on Linux -lpthread -ldl -lm. */
#ifndef TILEFIT_H
#define TILEFIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum tilefit_status {
    TILEFIT_OK = 0,
    TILEFIT_DAMAGED = 1,     /* not a Tilefit file, or a damaged one */
    TILEFIT_UNSUPPORTED = 2, /* a version or model family that this library does not read */
    TILEFIT_LIMIT = 3,       /* more pixels, memory or work than the limits allow */
    TILEFIT_USAGE = 4,       /* arguments: a null pointer, no such picture, a region outside, too small a buffer */
    TILEFIT_INTERNAL = 5     /* a defect of this library */
};

/* Checked before the decode starts. */
struct tilefit_limits {
    uint64_t max_pixels; /* of the output */
    uint64_t max_memory; /* bytes that a decode may hold */
    uint64_t max_work;   /* multiplications that it may take, about */
};

struct tilefit_picture_info {
    uint32_t version;  /* of the format */
    uint32_t pictures; /* in the file */
    uint32_t width;
    uint32_t height;
    uint32_t channels;      /* alpha included; without it 1 is grey, 3 red green blue, others are bands */
    uint32_t depth;         /* bits of a sample, 8 to 16 */
    uint32_t alpha;         /* 1 if the last channel is alpha, not multiplied into the others; else 0 */
    uint32_t digest;        /* CRC-32 of the decoded samples */
    uint64_t weights_bytes; /* of the file: the model */
    uint64_t codes_bytes;   /* of the file: all pictures' codes */
    uint64_t decode_memory; /* bytes that decoding one whole picture holds, at most */
    double macs_per_pixel;
};

/* In all functions: `data`, `size` is the file. `picture` counts from 0. `limits` may be NULL: 2^28 pixels, 2 GiB, 2^40 multiplications.
 * `scale` 0 to 3 decodes at 1/2^scale: sides are ceil(side / 2^scale).
 * Samples go to `out`, row by row, the channels of a pixel together; `out_size` is the number of bytes, at
 * least width * height * channels, and twice as much for a depth over 8: a sample is then a uint16_t of this machine, at
 * most 2^depth - 1; `out` need not be aligned for it. Alpha is 0 where the pixel is transparent.
 * On failure `error`, if not NULL, receives one line of at most `error_size - 1` bytes of UTF-8 and a final 0;
 * `out` holds nothing of use. The result is one of tilefit_status. */

int tilefit_info(const uint8_t *data, size_t size, size_t picture, struct tilefit_picture_info *info, char *error,
                 size_t error_size);

int tilefit_decode(const uint8_t *data, size_t size, size_t picture, uint32_t scale,
                   const struct tilefit_limits *limits, uint8_t *out, size_t out_size, char *error,
                   size_t error_size);

/* The region in pixels of the scaled picture; the same samples as that part of the whole. */
int tilefit_decode_region(const uint8_t *data, size_t size, size_t picture, uint32_t scale, size_t x, size_t y,
                          size_t width, size_t height, const struct tilefit_limits *limits, uint8_t *out,
                          size_t out_size, char *error, size_t error_size);

/* Metadata that the picture came with: an ICC profile as a zlib stream, EXIF from its byte order mark on, the four bytes
 * of a PNG's cICP chunk, or another kind of docs/FORMAT.md, section 2. `length` receives the number of bytes, 0 where there
 * are none; they go to `out`, unless it is NULL. They never change the samples. */
enum tilefit_metadata_kind { TILEFIT_ICC = 1, TILEFIT_EXIF = 2, TILEFIT_CICP = 3 };

int tilefit_metadata(const uint8_t *data, size_t size, size_t picture, uint32_t kind, uint8_t *out, size_t out_size,
                     size_t *length, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
