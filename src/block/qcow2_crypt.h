/* Encryption of qcow2 images: between the files that read and write data and the one that knows how. As qcow2.h. */
#ifndef VIREO_BLOCK_QCOW2_CRYPT_H
#define VIREO_BLOCK_QCOW2_CRYPT_H

#include "block/crypt_io.h"
#include "block/luks.h"
#include "block/qcow2.h"

enum { QC_CRYPT_NONE, QC_CRYPT_AES, QC_CRYPT_LUKS };

struct qc_crypt {
	struct luks luks;
	struct crypt_io io; /* `c` NULL: only metadata is wanted */
	char *secret;	    /* that it was opened with */
};

struct qc_crypt_plan {
	unsigned kind;
	struct luks_wishes w;
};

/* Take encrypt.* and open what the header says; the data file is open. */
int qc_crypt_open(struct node *n, struct opts *o, struct err *err);
void qc_crypt_free(struct qcow2 *s);
int qc_crypt_wish(struct qc_crypt_plan *p, struct opts *o, struct err *err);
/* For a new image: what the header has to say then is in the state. */
int qc_crypt_create(struct node *n, const struct qc_crypt_plan *p, struct err *err);
int qc_crypt_amend(struct node *n, struct opts *o, bool force, struct err *err);
struct json_t *qc_crypt_json(const struct qcow2 *s);

/* Where data is. */
struct qc_place {
	uint64_t host, guest;
};
/* Of a cluster that is not compressed. */
int qc_data_read(struct node *n, const struct qc_place *p, uint64_t bytes, const struct iovec *iov, unsigned niov);
int qc_data_write(struct node *n, const struct qc_place *p, uint64_t bytes, const struct iovec *iov, unsigned niov);

#endif
