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

/* The font of the VGA BIOS, whether the machine has it in its card or not. */
static bool read_picture(struct vm *vm, struct screen_text *t, struct err *err)
{
	struct screen s = { 0 };
	struct boot_image rom;
	uint8_t *data;
	const uint8_t *font;
	bool ok = false;

	if (boot_image_open(&rom, "the font to read a picture with", VM_VGABIOS, err))
		return false;
	data = rom.size <= PCI_ROM_MAX ? malloc(rom.size) : NULL;
	if (!data || !vm->screen.source.draw(vm->screen.source.opaque, &s, SCREEN_WHOLE)) {
		err_set(err, "out of memory");
	} else if (!boot_image_read(&rom, 0, data, rom.size, err)) {
		font = glyphs_find(data, rom.size);
		ok = font && glyphs_read(&s, font, t);
		if (!ok)
			err_set(err, "The screen shows a picture, not characters of the usual font");
	}
	screen_free(&s);
	free(data);
	boot_image_close(&rom);
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
