/* See identity.h. */
#include "base/identity.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static struct {
	bool wanted;
	uid_t uid;
	gid_t gid;
	char user[64]; /* whose other groups it gets; "": none */
} wish;

static bool parse_ids(const char *text, uid_t *uid, gid_t *gid)
{
	unsigned long u, g;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	u = strtoul(text, &end, 10);
	if (*end != ':' || end[1] < '0' || end[1] > '9')
		return false;
	g = strtoul(end + 1, &end, 10);
	/* -1 means "as it is" to setresuid(2). */
	if (*end || errno || u >= UINT32_MAX || g >= UINT32_MAX)
		return false;
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return true;
}

int identity_wish(const char *text, struct err *err)
{
	const struct passwd *p;

	memset(&wish, 0, sizeof(wish));
	if (!parse_ids(text, &wish.uid, &wish.gid)) {
		p = getpwnam(text);
		if (!p || strlen(text) >= sizeof(wish.user))
			return err_set(err, "User \"%.80s\" doesn't exist (and is not <uid>:<gid>)", text);
		wish.uid = p->pw_uid;
		wish.gid = p->pw_gid;
		snprintf(wish.user, sizeof(wish.user), "%s", text);
	}
	wish.wanted = true;
	return 0;
}

static bool is_so(void)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	return !getresuid(&r, &e, &s) && !getresgid(&rg, &eg, &sg) && r == wish.uid && e == wish.uid && s == wish.uid &&
	       rg == wish.gid && eg == wish.gid && sg == wish.gid;
}

int identity_take(struct err *err)
{
	if (!wish.wanted || is_so())
		return 0;
	if (*wish.user ? initgroups(wish.user, wish.gid) : setgroups(1, &wish.gid))
		return err_errno(err, errno, "failed to set the groups of %u:%u", wish.uid, wish.gid);
	if (setresgid(wish.gid, wish.gid, wish.gid))
		return err_errno(err, errno, "failed to setgid(%u)", wish.gid);
	if (setresuid(wish.uid, wish.uid, wish.uid))
		return err_errno(err, errno, "failed to setuid(%u)", wish.uid);
	if (wish.uid && !setuid(0))
		return err_set(err, "dropping privileges failed: it could become root again");
	return 0;
}
