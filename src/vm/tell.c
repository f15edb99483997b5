/* What a user tells the guest beside the machine's own: texts of SMBIOS, files of fw_cfg. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/fw_cfg.h"
#include "vm/impl.h"

#define FILES_MAX 16
#define FILE_MAX  (16u << 20)

int vm_read_smbios(struct vm *vm, struct err *err)
{
	struct smbios_config *c = &vm->smbios;
	char key[32];

	for (unsigned n = 0; n < SMBIOS_TEXTS; n++) {
		if (config_str(vm->config, smbios_text_keys[n], NULL, &c->text[n], err))
			return -1;
		if (c->text[n] && strlen(c->text[n]) > SMBIOS_TEXT_MAX)
			return err_set(err, "%s: longer than %u characters", smbios_text_keys[n], SMBIOS_TEXT_MAX);
	}
	for (; c->oem_count < SMBIOS_OEM_MAX; c->oem_count++) {
		const char **text = &c->oem[c->oem_count];

		snprintf(key, sizeof(key), "smbios.oem%u", c->oem_count);
		if (config_str(vm->config, key, NULL, text, err))
			return -1;
		if (!*text)
			break;
		if (!**text || strlen(*text) > SMBIOS_OEM_LEN)
			return err_set(err, "%s: not 1 to %u characters", key, SMBIOS_OEM_LEN);
	}
	return 0;
}

/* All of a file, which may be a pipe. NULL on error; to be freed. */
static void *read_file(const char *key, const char *path, size_t *len, struct err *err)
{
	FILE *f = fopen(path, "re");
	char *data = f ? malloc(FILE_MAX + 1) : NULL;

	if (!data) {
		err_errno(err, errno, "%s: %s", key, path);
		if (f)
			fclose(f);
		return NULL;
	}
	*len = fread(data, 1, FILE_MAX + 1, f);
	if (ferror(f) || *len > FILE_MAX) {
		if (ferror(f))
			err_errno(err, errno, "%s: %s", key, path);
		else
			err_set(err, "%s: %s is larger than %u MiB", key, path, FILE_MAX >> 20);
		free(data);
		data = NULL;
	}
	fclose(f);
	return data;
}

static int add_file(struct vm *vm, const char *prefix, struct err *err)
{
	const char *name, *path, *text;
	char key[40];
	void *data;
	size_t len;
	int rc;

	snprintf(key, sizeof(key), "%s.text", prefix);
	if (config_str(vm->config, key, NULL, &text, err))
		return -1;
	snprintf(key, sizeof(key), "%s.path", prefix);
	if (config_str(vm->config, key, NULL, &path, err))
		return -1;
	snprintf(key, sizeof(key), "%s.name", prefix);
	if (config_str(vm->config, key, NULL, &name, err))
		return -1;
	if (!name || !*name || strlen(name) > 55)
		return err_set(err, "%s: a file of fw_cfg has a name of 1 to 55 characters", key);
	if (!text == !path)
		return err_set(err, "%s: a file of fw_cfg has either a text or a path", prefix);
	if (text)
		return fw_cfg_add_file(vm->fw_cfg, name, text, strlen(text), err);
	snprintf(key, sizeof(key), "%s.path", prefix);
	data = read_file(key, path, &len, err);
	if (!data)
		return -1;
	rc = fw_cfg_add_file(vm->fw_cfg, name, data, len, err);
	free(data);
	return rc;
}

int vm_add_fw_cfg_files(struct vm *vm, struct err *err)
{
	for (unsigned n = 0; n <= FILES_MAX; n++) {
		char prefix[16];

		snprintf(prefix, sizeof(prefix), "fwcfg%u", n);
		if (!config_has(vm->config, prefix))
			break;
		if (n == FILES_MAX)
			return err_set(err, "%s: there are %u of them at most", prefix, FILES_MAX);
		if (add_file(vm, prefix, err))
			return -1;
	}
	return 0;
}
