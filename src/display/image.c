/* See image.h. */
#include "display/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void row_of(const struct screen *s, unsigned y, uint8_t *rgb)
{
	const uint32_t *p = s->pixels + (size_t)y * s->width;

	for (unsigned x = 0; x < s->width; x++) {
		*rgb++ = (uint8_t)(p[x] >> 16);
		*rgb++ = (uint8_t)(p[x] >> 8);
		*rgb++ = (uint8_t)p[x];
	}
}

static bool write_ppm(FILE *f, const struct screen *s, uint8_t *row)
{
	fprintf(f, "P6\n%u %u\n255\n", s->width, s->height);
	for (unsigned y = 0; y < s->height; y++) {
		row_of(s, y, row);
		if (fwrite(row, 3, s->width, f) != s->width)
			return false;
	}
	return true;
}

static bool write_png(FILE *f, const struct screen *s, uint8_t *row)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png ? png_create_info_struct(png) : NULL;

	/* libpng comes back here when it fails. */
	if (!info || setjmp(png_jmpbuf(png))) {
		png_destroy_write_struct(&png, NULL);
		return false;
	}
	png_init_io(png, f);
	png_set_compression_level(png, 3);
	png_set_IHDR(png, info, s->width, s->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	for (unsigned y = 0; y < s->height; y++) {
		row_of(s, y, row);
		png_write_row(png, row);
	}
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	return true;
}

/*
 * A regular file is replaced as a whole; what else there is (a pipe, or a link as /dev/stdout, wherever it leads) is
 * written to, as far as that takes no waiting.
 */
static FILE *begin(const char *path, char temporary[PATH_MAX], struct err *err)
{
	struct stat st;
	FILE *f;
	int fd;

	temporary[0] = 0;
	if (!lstat(path, &st) && !S_ISREG(st.st_mode)) {
		fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
		f = fd < 0 ? NULL : fdopen(fd, "wb");
		if (!f)
			err_errno(err, errno, "%s", path);
		if (!f && fd >= 0)
			close(fd);
		return f;
	}
	if (snprintf(temporary, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX) {
		temporary[0] = 0;
		err_set(err, "%.64s...: the name is too long", path);
		return NULL;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		err_errno(err, errno, "%s", path);
		return NULL;
	}
	fchmod(fd, 0644);
	f = fdopen(fd, "wb");
	if (!f) {
		err_errno(err, errno, "%s", path);
		close(fd);
		unlink(temporary);
	}
	return f;
}

int image_write(const char *path, const struct screen *s, enum image_format format, struct err *err)
{
	char temporary[PATH_MAX];
	uint8_t *row = malloc((size_t)s->width * 3);
	FILE *f = row ? begin(path, temporary, err) : NULL;
	bool ok;

	if (!f) {
		if (!row)
			err_set(err, "out of memory");
		free(row);
		return -1;
	}
	errno = 0;
	ok = format == IMAGE_PNG ? write_png(f, s, row) : write_ppm(f, s, row);
	ok &= !fclose(f);
	free(row);
	if (ok && temporary[0])
		ok = !rename(temporary, path);
	if (ok)
		return 0;
	err_errno(err, errno ? errno : EIO, "%s", path);
	if (temporary[0])
		unlink(temporary);
	return -1;
}
