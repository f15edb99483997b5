/* vm/save*.c: what is saved comes back, what cannot be saved goes on, and what is no good is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "machine.h"
#include "stream.h"
#include "vm/impl.h"
#include "vm/save_stream.h"

/* --- saving and restoring with the control socket's words --- */

/* Begin to save; `word`: what it comes to. */
static void save_to(struct machine *m, const char *path, const char *word)
{
	char args[256];

	snprintf(args, sizeof(args), "{\"uri\": \"file:%s\"}", path);
	json_decref(machine_execute(m, "migrate", args));
	for (int tries = 0; tries < 10000; tries++) {
		json_t *o = machine_execute(m, "query-migrate", NULL);
		const char *status = json_string_value(json_object_get(o, "status"));
		bool is = !strcmp(status, word), goes_on = !strcmp(status, "active") || !strcmp(status, "cancelling");

		if (!is && !goes_on)
			fail_msg("%s", json_dumps(o, 0));
		json_decref(o);
		if (is)
			return;
		usleep(1000);
	}
	fail_msg("the save does not end");
}

static void refused_save(struct machine *m, const char *path, const char *says)
{
	char args[256], *text;

	snprintf(args, sizeof(args), "{\"uri\": \"file:%s\"}", path);
	text = machine_refuses(m, "migrate", args);
	if (!strstr(text, says))
		fail_msg("'%s' does not say '%s'", text, says);
	free(text);
	assert_true(machine_is(m, "running"));
}

static void restore(struct machine *m, const char *path, const char *keys)
{
	struct err err = { "" };

	*m = (struct machine){ .config = machine_config(NULL, keys), .qmp = -1 };
	m->vm = vm_restore(m->config, path, &err);
	assert_string_equal(err.msg, "");
	machine_start(m);
}

static void refused(const char *path, const char *keys, const char *says)
{
	struct config *c = machine_config(NULL, keys);
	struct err err = { "" };
	struct vm *vm = vm_restore(c, path, &err);

	assert_null(vm);
	if (!strstr(err.msg, says))
		fail_msg("'%s' does not say '%s'", err.msg, says);
	assert_null(strchr(err.msg, '\n'));
	config_free(c);
}

/* A machine with one of each: the file of its state. */
static const char *saved_machine(const char *keys)
{
	const char *path = machines_path("state");
	struct machine m;

	unlink(path);
	machine_new(&m, CODE_TWO, keys);
	machine_start(&m);
	machine_wait_progress(&m, keys && strstr(keys, "cpus=2") ? AP_COUNTER : COUNTER);
	save_to(&m, path, "completed");
	machine_quit(&m);
	return path;
}

static const char *disk(uint64_t size)
{
	const char *path = machines_path("disk");
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0 && !ftruncate(fd, (off_t)size));
	close(fd);
	return path;
}

/* Nothing of `dir` but these. */
static unsigned files_in(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned count = 0;

	while (readdir(d))
		count++;
	closedir(d);
	return count - 2;
}

/* --- the life of a save --- */

static void a_machine_goes_on_where_it_was_saved(void **state)
{
	const char *path = machines_path("state");
	struct machine m;
	uint32_t bsp, ap;

	machine_new(&m, CODE_TWO, "cpus=2 rng=on");
	machine_start(&m);
	machine_wait_progress(&m, AP_COUNTER);
	save_to(&m, path, "completed");
	assert_true(machine_is(&m, "postmigrate"));
	bsp = machine_word(&m, COUNTER);
	ap = machine_word(&m, AP_COUNTER);
	/* It may go on as well. */
	machine_do(&m, "cont");
	machine_wait_progress(&m, COUNTER);
	assert_int_equal(machine_quit(&m), 0);
	restore(&m, path, "");
	machine_wait_progress(&m, AP_COUNTER);
	machine_wait_progress(&m, COUNTER);
	assert_true(machine_word(&m, COUNTER) > bsp && machine_word(&m, AP_COUNTER) > ap);
	/* A restored machine may be reset, and saved again. */
	save_to(&m, path, "completed");
	machine_do(&m, "system_reset");
	machine_do(&m, "cont");
	machine_wait_progress(&m, AP_COUNTER);
	assert_int_equal(machine_quit(&m), 0);
}

static void a_paused_machine_is_restored_paused(void **state)
{
	const char *path = machines_path("state");
	struct machine m;

	machine_new(&m, CODE_COUNT, "");
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	machine_do(&m, "stop");
	save_to(&m, path, "completed");
	machine_quit(&m);
	restore(&m, path, "");
	assert_true(machine_is(&m, "paused"));
	machine_do(&m, "cont");
	machine_wait_progress(&m, COUNTER);
	machine_quit(&m);
	restore(&m, path, "paused=off");
	assert_true(machine_is(&m, "running"));
	machine_quit(&m);
}

/* An INIT and a SIPI that were sent to a CPU that stood still already. */
static void what_cpus_have_sent_each_other_is_saved(void **state)
{
	static const uint8_t ap[] = "\x66\xff\x06\x00\x90\xeb\xf9";
	const char *path = machines_path("state");
	struct machine m;

	machine_new(&m, CODE_COUNT, "cpus=2");
	machine_start(&m);
	machine_do(&m, "stop");
	assert_true(mem_write(m.vm->mem, gpa(0x8000), ap, sizeof(ap)));
	vcpu_signal(m.vm->cpu[1].vcpu, CPU_SIGNAL_INIT, 0);
	vcpu_signal(m.vm->cpu[1].vcpu, CPU_SIGNAL_SIPI, 8);
	save_to(&m, path, "completed");
	machine_quit(&m);
	restore(&m, path, "paused=off");
	machine_wait_progress(&m, AP_COUNTER);
	machine_quit(&m);
}

static void guest_time_goes_on(void **state)
{
	const char *path = machines_path("state");
	struct machine m;
	int64_t before, after;

	machine_new(&m, CODE_HALT, "");
	machine_start(&m);
	usleep(50000);
	save_to(&m, path, "completed");
	before = clock_now_ns(m.vm->clock);
	machine_quit(&m);
	usleep(300000);
	restore(&m, path, "");
	machine_do(&m, "stop");
	after = clock_now_ns(m.vm->clock);
	assert_true(before > 40000000);
	assert_true(after >= before && after < before + 200000000);
	/* But the date is today's. */
	assert_in_range(clock_wall_ns(m.vm->clock) / 1000000000, time(NULL) - 5, time(NULL) + 5);
	machine_quit(&m);
}

static void one_save_at_a_time_and_it_can_be_cancelled(void **state)
{
	const char *path;
	struct machine m;
	char args[256], *text;

	mkdir(machines_path("saves"), 0700);
	path = machines_path("saves/state");
	machine_new(&m, CODE_COUNT, "memory=512");
	machine_start(&m);
	assert_true(mem_fill(m.vm->mem, gpa(0x300000), 0x5a, 500 << 20));
	snprintf(args, sizeof(args), "{\"uri\": \"file:%s\"}", path);
	json_decref(machine_execute(&m, "migrate", args));
	assert_true(machine_is(&m, "finish-migrate"));
	text = machine_refuses(&m, "migrate", args);
	assert_string_equal(text, "the machine is being saved already");
	free(text);
	text = machine_refuses(&m, "cont", NULL);
	assert_string_equal(text, "the machine is being saved");
	free(text);
	text = machine_refuses(&m, "system_reset", NULL);
	assert_string_equal(text, "the machine is being saved");
	free(text);
	machine_do(&m, "migrate_cancel");
	for (int tries = 0; !machine_is(&m, "running") && tries < 5000; tries++)
		usleep(1000);
	assert_int_equal(files_in(machines_path("saves")), 0);
	machine_wait_progress(&m, COUNTER);
	/* One that is under way when the machine ends leaves nothing either. */
	json_decref(machine_execute(&m, "migrate", args));
	assert_int_equal(machine_quit(&m), 0);
	assert_int_equal(files_in(machines_path("saves")), 0);
}

static void what_cannot_be_written_leaves_everything_as_it_was(void **state)
{
	struct rlimit old, small = { 300000, 300000 };
	struct machine m;
	struct stat st;
	json_t *o;

	mkdir(machines_path("saves"), 0700);
	machine_new(&m, CODE_COUNT, "");
	machine_start(&m);
	refused_save(&m, "/no/such/directory/state", "/no/such/directory/state: No such file or directory");
	refused_save(&m, "/proc/state", "/proc/state");
	/* Not one of the host's: where the check is missing it would be gone. */
	assert_int_equal(mkfifo(machines_path("fifo"), 0600), 0);
	refused_save(&m, machines_path("fifo"), "/fifo is there and not a saved state; it is not replaced");
	refused_save(&m, machines_path("saves"), "is not replaced");
	refused_save(&m, machines_path("kernel"), "is not replaced");
	/* The disk gets full in the middle. */
	assert_true(mem_fill(m.vm->mem, gpa(0x300000), 0x5a, 1 << 20));
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	save_to(&m, machines_path("saves/state"), "failed");
	setrlimit(RLIMIT_FSIZE, &old);
	o = machine_execute(&m, "query-migrate", NULL);
	assert_non_null(
		strstr(json_string_value(json_object_get(o, "error-desc")), "saves/state: write: File too large"));
	json_decref(o);
	assert_true(machine_is(&m, "running"));
	assert_int_equal(files_in(machines_path("saves")), 0);
	/* An older state is replaced only by a whole one, and for its owner only. */
	save_to(&m, machines_path("saves/state"), "completed");
	machine_do(&m, "cont");
	assert_int_equal(stat(machines_path("saves/state"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	setrlimit(RLIMIT_FSIZE, &small);
	save_to(&m, machines_path("saves/state"), "failed");
	setrlimit(RLIMIT_FSIZE, &old);
	machine_quit(&m);
	assert_int_equal(files_in(machines_path("saves")), 1);
	restore(&m, machines_path("saves/state"), "");
	machine_quit(&m);
	unlink(machines_path("saves/state"));
}

/* --- what a restore may change, and what it refuses --- */

static void files_are_found_from_anywhere_and_may_be_others(void **state)
{
	char keys[256], cwd[256];
	const char *path;
	struct machine m;

	disk(1 << 20);
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(machines_path(".")), 0);
	path = saved_machine("cpus=2 disk0.path=disk disk0.format=raw net0.backend=user");
	assert_int_equal(chdir(cwd), 0);
	restore(&m, path, "");
	machine_quit(&m);
	/* Another file of the same size, with its own format. */
	assert_int_equal(rename(machines_path("disk"), machines_path("moved")), 0);
	refused(path, "", "/disk: no such file");
	snprintf(keys, sizeof(keys), "disk0.path=%s", machines_path("moved"));
	restore(&m, path, keys);
	assert_null(config_peek(m.config, "disk0.format"));
	assert_string_equal(config_peek(m.config, "disk0.addr"), "2");
	machine_quit(&m);
	assert_int_equal(truncate(machines_path("moved"), 2 << 20), 0);
	refused(path, keys, "moved has 4096 sectors, but had 2048 when the state was saved");
	unlink(machines_path("moved"));
}

/* Where the guest's network is stays with another word of its ports, and goes with it. */
static void a_network_stays_where_it_is(void **state)
{
	const char *path = saved_machine("net0.backend=user net0.net=192.168.76.0/24 net0.ipv6=off net0.restrict=on");
	struct machine m;

	restore(&m, path, "net0.backend=user");
	assert_string_equal(config_peek(m.config, "net0.net"), "192.168.76.0/24");
	assert_string_equal(config_peek(m.config, "net0.ipv6"), "off");
	assert_null(config_peek(m.config, "net0.restrict"));
	machine_quit(&m);
	restore(&m, path, "net0.backend=user net0.net=10.0.3.0/24");
	assert_string_equal(config_peek(m.config, "net0.net"), "10.0.3.0/24");
	machine_quit(&m);
	restore(&m, path, "net0.backend=null");
	assert_null(config_peek(m.config, "net0.net"));
	machine_quit(&m);
}

static void the_machine_itself_cannot_be_changed(void **state)
{
	const char *path = saved_machine("cpus=2 cpu.model=max,-smap");
	static const char *const bad[][2] = {
		{ "memory=32", "memory: '32' is not what the saved machine has ('16')" },
		{ "cpus=1", "cpus: '1' is not what the saved machine has ('2')" },
		{ "cpu.model=max", "cpu.model: 'max' is not what the saved machine has ('max,-smap')" },
		{ "disk0.bus=mmio", "disk0.bus: 'mmio' would change the saved machine" },
		{ "balloon=on", "balloon: 'on' would change the saved machine, which was made without it" },
		{ "machine=pc-9.0", "machine: 'pc-9.0' is not what the saved machine has ('pc-1.0')" },
		{ "wat=1", "unknown key 'wat'" },
	};

	for (size_t n = 0; n < sizeof(bad) / sizeof(bad[0]); n++)
		refused(path, bad[n][0], bad[n][1]);
}

/* Another text of the same length in the saved configuration. */
static void edit_config(struct stream *s, const char *from, const char *to)
{
	uint8_t *at = memmem(s->data + s->config, s->config_len, from, strlen(from));

	assert_true(at && strlen(from) == strlen(to));
	memcpy(at, to, strlen(to));
}

static void another_cpu_is_refused_by_name(void **state)
{
	const char *path = saved_machine("cpu.model=max,+smap");
	struct stream s;

	stream_read(&s, path);
	edit_config(&s, "max,+smap", "max,-smap");
	stream_seal(&s);
	stream_write(&s, path);
	refused(path, "", "cpu.model: the saved CPU has smap, which this engine does not give here");
	stream_free(&s);
}

static void a_cpu_keeps_what_it_was_saved_with(void **state)
{
	const char *path = saved_machine("cpu.model=max,-smap");
	struct machine m;
	struct stream s;

	/* As if this program's "max" had learned something since. */
	stream_read(&s, path);
	edit_config(&s, "max,-smap", "max,+smap");
	stream_seal(&s);
	stream_write(&s, path);
	stream_free(&s);
	restore(&m, path, "");
	save_to(&m, path, "completed");
	machine_quit(&m);
	stream_read(&s, path);
	for (size_t n = 0; n < s.field_count; n++)
		if (!strcmp(s.fields[n].name, "words.bits") && stream_get(&s, &s.fields[n - 3]) == 7 &&
		    stream_get(&s, &s.fields[n - 1]) == 1)
			assert_int_equal(stream_get(&s, &s.fields[n]) >> 20 & 1, 0);
	stream_free(&s);
}

/*
 * Before there was a control queue no configuration had a word of it, and of virtio-net MAC and link were saved. Such a
 * machine keeps the card that it had, and says so when it is saved again.
 */
static void a_card_without_a_control_queue_stays_one(void **state)
{
	const char *path = saved_machine("net0.backend=null net0.ctrl_vq=off");
	struct machine m;
	struct stream s;

	for (int again = 0; again < 2; again++) {
		unsigned fields = 0;

		stream_read(&s, path);
		for (size_t n = 0; n < s.field_count; n++)
			if (!strcmp(s.fields[n].section, "virtio-net") && !strncmp(s.fields[n].name, "self.", 5)) {
				assert_string_equal(s.fields[n].name, "self.config");
				fields++;
			}
		assert_int_equal(fields, 8);
		edit_config(&s, "net0.ctrl_vq = off", "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
		stream_seal(&s);
		stream_write(&s, path);
		stream_free(&s);
		restore(&m, path, "");
		save_to(&m, path, "completed");
		machine_quit(&m);
	}
	refused(path, "net0.ctrl_vq=on", "net0.ctrl_vq: 'on' is not what the saved machine has ('off')");
}

/* What a driver has seen of a card stays, also when its other end is another one. */
static void a_card_stays_what_it_is(void **state)
{
	static const char *const others[] = { "net0.speed=2000", "net0.duplex=half", "net0.rx-queue-size=1024",
					      "net0.tx-queue-size=256" };
	const char *path = saved_machine("net0.backend=null net0.speed=1000 net0.duplex=full net0.rx-queue-size=512 "
					 "net0.tx-queue-size=512");
	struct machine m;
	char said[128];

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		const char *value = strchr(others[i], '=');

		snprintf(said, sizeof(said), "%.*s: '%s' is not what the saved machine has", (int)(value - others[i]),
			 others[i], value + 1);
		refused(path, others[i], said);
	}
	restore(&m, path, "net0.backend=null");
	machine_quit(&m);
}

/* What its frames are kept in has those from before the save as well. */
static void a_capture_goes_on(void **state)
{
	const char *file = machines_path("capture"), *path = machines_path("state");
	const char frame[16 + 4] = { [8] = 4, [12] = 4 };
	struct machine m;
	char keys[200];
	struct stat st;
	int fd;

	snprintf(keys, sizeof(keys), "net0.backend=null net0.dump=%s", file);
	machine_new(&m, CODE_TWO, keys);
	machine_start(&m);
	machine_wait_progress(&m, COUNTER);
	fd = open(file, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, frame, sizeof(frame)), sizeof(frame));
	close(fd);
	save_to(&m, path, "completed");
	machine_quit(&m);
	restore(&m, path, "");
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 24 + sizeof(frame));
	machine_quit(&m);
}

static void other_formats_are_refused_by_name(void **state)
{
	const char *path = saved_machine("");
	struct stream s;

	stream_read(&s, path);
	s.data[8] = 9;
	stream_seal(&s);
	stream_write(&s, path);
	refused(path, "", "saved in format 9 by vireo " VIREO_VERSION "; vireo " VIREO_VERSION " reads format 1");
	memcpy(s.data, "ELFSTATE", 8);
	stream_write(&s, path);
	refused(path, "", "not a saved state");
	stream_free(&s);
	refused("/dev/null", "", "not a saved state");
	refused("/", "", "/");
	refused("/no/such/file", "", "/no/such/file: No such file or directory");
}

/* One bit anywhere. */
static void any_damage_is_noticed(void **state)
{
	const char *path = saved_machine("cpus=2 rng=on");
	struct stream s;
	unsigned seed = 1;

	stream_read(&s, path);
	for (int n = 0; n < 200; n++) {
		size_t at = (size_t)rand_r(&seed) % s.len;
		uint8_t bit = (uint8_t)(1u << (n & 7));

		s.data[at] ^= bit;
		stream_write(&s, path);
		refused(path, "", "");
		s.data[at] ^= bit;
	}
	for (int n = 0; n < 100; n++) {
		size_t len = s.len;

		s.len = (size_t)rand_r(&seed) % s.len;
		stream_write(&s, path);
		refused(path, "", "");
		s.len = len;
	}
	s.data = realloc(s.data, s.len + 1);
	s.data[s.len++] = 0;
	stream_write(&s, path);
	refused(path, "", "");
	stream_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_machine_goes_on_where_it_was_saved),
		cmocka_unit_test(a_paused_machine_is_restored_paused),
		cmocka_unit_test(what_cpus_have_sent_each_other_is_saved),
		cmocka_unit_test(guest_time_goes_on),
		cmocka_unit_test(one_save_at_a_time_and_it_can_be_cancelled),
		cmocka_unit_test(what_cannot_be_written_leaves_everything_as_it_was),
		cmocka_unit_test(files_are_found_from_anywhere_and_may_be_others),
		cmocka_unit_test(a_network_stays_where_it_is),
		cmocka_unit_test(the_machine_itself_cannot_be_changed),
		cmocka_unit_test(another_cpu_is_refused_by_name),
		cmocka_unit_test(a_cpu_keeps_what_it_was_saved_with),
		cmocka_unit_test(a_card_without_a_control_queue_stays_one),
		cmocka_unit_test(a_card_stays_what_it_is),
		cmocka_unit_test(a_capture_goes_on),
		cmocka_unit_test(other_formats_are_refused_by_name),
		cmocka_unit_test(any_damage_is_noticed),
	};

	return cmocka_run_group_tests(tests, machines_begin, machines_end);
}
