/* Resizing of 8-bit images to squares, bilinear in fixed point numbers: `jaxcv.data.windows._resize`, to the byte. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* near, far, share of every place along x, then along y; `stride` in bytes from line to line of `pixels`. Returns 0, or
 * 1 where there is no memory. */
int resize_bilinear(const uint8_t *pixels, ptrdiff_t stride, const int64_t *near, const int64_t *far,
                    const uint16_t *share, int64_t size, int64_t channels, uint8_t *out) {
  const int64_t *rows[2] = {near + size, far + size}, width = size * channels;
  const uint16_t *rest = share + size;
  uint16_t *lines[2] = {malloc(width * sizeof(uint16_t)), malloc(width * sizeof(uint16_t))};
  int64_t held[2] = {-1, -1};
  int failed = !lines[0] || !lines[1];
  for (int64_t y = 0; y < size && !failed; y++) {
    if (held[1] == rows[0][y]) { /* the lower line of the last row is the upper one of this */
      uint16_t *line = lines[0];
      lines[0] = lines[1], lines[1] = line;
      held[1] = held[0], held[0] = rows[0][y];
    }
    for (int i = 0; i < 2; i++) {
      if (held[i] == rows[i][y]) continue;
      const uint8_t *line = pixels + rows[i][y] * stride;
      uint16_t *mixed = lines[i];
      held[i] = rows[i][y];
      for (int64_t x = 0; x < size; x++) {
        const uint8_t *a = line + near[x] * channels, *b = line + far[x] * channels;
        for (int64_t c = 0; c < channels; c++) *mixed++ = a[c] * (256 - share[x]) + b[c] * share[x];
      }
    }
    const uint16_t *upper = lines[0], *lower = lines[1];
    uint32_t above = 256 - rest[y], below = rest[y];
    for (int64_t x = 0; x < width; x++) *out++ = (upper[x] * above + lower[x] * below + 32768) >> 16;
  }
  free(lines[0]);
  free(lines[1]);
  return failed;
}
