/* Pictures of a screen as files: PNG (by libpng) and PPM. Any thread. */
#ifndef VIREO_DISPLAY_IMAGE_H
#define VIREO_DISPLAY_IMAGE_H

#include "base/err.h"
#include "base/screen.h"

enum image_format { IMAGE_PPM, IMAGE_PNG };

/* A new file that takes the place of `path` when it is complete. */
int image_write(const char *path, const struct screen *s, enum image_format format, struct err *err);

#endif
