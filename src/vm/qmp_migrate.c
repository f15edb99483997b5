/* QMP: saving the machine, which is a migration to a file. */
#include <string.h>

#include "vm/impl.h"
#include "vm/qmp.h"
#include "vm/save.h"

static json_t *migrate(struct vm *vm, const json_t *args, struct err *err)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (strncmp(uri, "file:", 5) || !uri[5]) {
		err_set(err, "Parameter 'uri' expects file:PATH");
		return NULL;
	}
	return vm_save_start(vm, uri + 5, err) ? NULL : json_object();
}

static json_t *migrate_cancel(struct vm *vm, const json_t *args, struct err *err)
{
	vm_save_cancel(vm);
	return json_object();
}

static json_t *query_migrate(struct vm *vm, const json_t *args, struct err *err)
{
	struct save_status s;
	json_t *o;

	if (!vm_save_status(vm, &s))
		return json_object();
	o = json_pack("{s:s,s:I,s:{s:I,s:I,s:I,s:I}}", "status", s.word, "total-time", (json_int_t)s.ms, "ram", "total",
		      (json_int_t)s.total, "remaining", (json_int_t)(s.total - s.done), "transferred",
		      (json_int_t)s.written, "page-size", (json_int_t)MEM_PAGE_SIZE);
	if (s.error)
		json_object_set_new(o, "error-desc", qmp_text(s.error));
	return o;
}

const struct qmp_command qmp_migrate_commands[] = {
	{ "migrate", "uri:str ?detach:bool", "", migrate },
	{ "migrate_cancel", "", "", migrate_cancel },
	{ "query-migrate", "", "MigrationInfo", query_migrate },
	{ 0 },
};
