/* The commands of the control socket that are about the screen. */
#include "vm/qmp.h"

#include <stdlib.h>
#include <string.h>

#include "display/glyphs.h"
#include "display/image.h"
#include "vm/impl.h"

static bool has_screen(struct vm *vm, struct err *err)
{
	return vm->screen.source.draw || err_set(err, "There is no screen to take a dump from") == 0;
}

static json_t *screendump(struct vm *vm, const json_t *args, struct err *err)
{
	const char *path = json_string_value(json_object_get(args, "filename"));
	const char *format = json_string_value(json_object_get(args, "format"));
	struct screen s = { 0 };
	int rc;

	if (!has_screen(vm, err))
		return NULL;
	if (format && strcmp(format, "png") && strcmp(format, "ppm")) {
		err_set(err, "Invalid parameter '%.32s'", format);
		return NULL;
	}
	if (!vm->screen.source.draw(vm->screen.source.opaque, &s, SCREEN_WHOLE)) {
		screen_free(&s);
		err_set(err, "out of memory");
		return NULL;
	}
	rc = image_write(path, &s, format && !strcmp(format, "png") ? IMAGE_PNG : IMAGE_PPM, err);
	screen_free(&s);
	return rc ? NULL : json_object();
}

/* --- characters --- */

#define FONT_FILE_MAX (8u << 20)
#define EDK2_RAM_MAX  (64u << 20) /* OVMF has its drivers, and so its font, at 9 MiB */
#define EDK2_STEP     (256u << 10)

/* Fonts that are files here, and where those who draw with them begin. */
static const struct font_file {
	const char *path;
	bool (*read)(struct font *f, const uint8_t *data, size_t len);
	struct glyph_place at;
} font_files[] = {
	/* Linux' console: the font of the VGA BIOS, whether the machine has it in its card or not. */
	{ VM_VGABIOS, font_of_bios, { 0, 0 } },
	/* GRUB's gfxterm, which leaves a margin: of Debian's package grub-common. */
	{ "/usr/share/grub/unicode.pf2", font_of_grub, { 10, 10 } },
};

static bool read_file(const struct font_file *file, struct font *f)
{
	struct boot_image image;
	uint8_t *data;
	struct err err;
	bool ok = false;

	if (boot_image_open(&image, "font", file->path, &err))
		return false;
	data = image.size <= FONT_FILE_MAX ? malloc(image.size) : NULL;
	if (data && !boot_image_read(&image, 0, data, image.size, &err))
		ok = file->read(f, data, image.size);
	free(data);
	boot_image_close(&image);
	return ok;
}

/* The font of EDK II lies in the memory of the machine that it has started. */
static bool find_edk2(struct vm *vm, struct font *f)
{
	uint8_t *data = malloc(EDK2_STEP + FONT_EDK2_MAX);
	bool ok = false;

	for (uint64_t base = 0; data && !ok && base < EDK2_RAM_MAX; base += EDK2_STEP) {
		size_t len = EDK2_STEP + FONT_EDK2_MAX;

		if (!mem_read(vm->mem, gpa(base), data, len))
			continue;
		for (size_t at = 0; !ok && (at = font_find_edk2(data, len, at)) < EDK2_STEP; at++)
			ok = font_of_edk2(f, data + at, len - at);
	}
	free(data);
	return ok;
}

/* Its consoles are in the middle of the screen, with an odd or even number of columns and of rows. */
static bool read_edk2(const struct screen *s, const struct font *f, struct screen_text *t)
{
	for (unsigned n = 0; n < 4; n++) {
		unsigned columns = s->width / FONT_WIDTH - n % 2, rows = s->height / f->height - n / 2;
		const struct glyph_place at = { (s->width - columns * FONT_WIDTH) / 2 % FONT_WIDTH,
						(s->height - rows * f->height) / 2 % f->height };

		if (s->width >= 2 * FONT_WIDTH && s->height >= 2 * f->height && glyphs_read(s, f, at, t))
			return true;
	}
	return false;
}

static bool read_fonts(struct vm *vm, const struct screen *s, struct font *f, struct screen_text *t)
{
	for (unsigned n = 0; n < sizeof(font_files) / sizeof(font_files[0]); n++)
		if (read_file(&font_files[n], f) && glyphs_read(s, f, font_files[n].at, t))
			return true;
	return vm->firmware && find_edk2(vm, f) && read_edk2(s, f, t);
}

static bool read_picture(struct vm *vm, struct screen_text *t, struct err *err)
{
	struct screen s = { 0 };
	struct font *f = malloc(sizeof(*f));
	bool ok = false;

	if (!f || !vm->screen.source.draw(vm->screen.source.opaque, &s, SCREEN_WHOLE)) {
		err_set(err, "out of memory");
	} else {
		ok = read_fonts(vm, &s, f, t);
		if (!ok)
			err_set(err, "The screen shows a picture, not characters of a font that is known here");
	}
	screen_free(&s);
	free(f);
	return ok;
}

/* Lines as UTF-8 without blanks at their ends. */
static json_t *screentext(struct vm *vm, const json_t *args, struct err *err)
{
	struct screen_text *t;
	json_t *lines;

	if (!has_screen(vm, err))
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t) {
		err_set(err, "out of memory");
		return NULL;
	}
	if (!vm->screen.source.text(vm->screen.source.opaque, t) && !read_picture(vm, t, err)) {
		free(t);
		return NULL;
	}
	lines = json_array();
	for (unsigned y = 0; y < t->rows; y++) {
		char line[SCREEN_LINE_MAX];

		screen_line(t, y, line);
		json_array_append_new(lines, qmp_text(line));
	}
	lines = json_pack("{s:o,s:i,s:i}", "lines", lines, "columns", (int)t->columns, "rows", (int)t->rows);
	if (t->cursor_x < t->columns)
		json_object_set_new(lines, "cursor",
				    json_pack("{s:i,s:i}", "x", (int)t->cursor_x, "y", (int)t->cursor_y));
	free(t);
	return lines;
}

const struct qmp_command qmp_screen_commands[] = {
	{ "screendump", "filename:str ?format:str ?device:str ?head:int", "", screendump },
	{ "x-vireo-screentext", "", "any", screentext },
	{ 0 },
};
