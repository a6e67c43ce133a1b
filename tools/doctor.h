/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the files of `hsmctl doctor` share. A check is one small function; the table in cmd_doctor.c gives it
 * its name, its place in the order and the facts it builds on. It reports with doctor_say(), as often as it
 * likes.
 */
#ifndef HSMCTL_DOCTOR_H
#define HSMCTL_DOCTOR_H

#include <limits.h>

#include <openssl/conf.h>
#include <openssl/types.h>

#include "tool.h"

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

/** What earlier checks have found to exist. */
enum fact {
    HAVE_TEXT = 1 << 0,    /* the file was read: text */
    HAVE_CONF = 1 << 1,    /* it parses: conf */
    HAVE_INIT = 1 << 2,    /* openssl_conf leads to a section: init */
    HAVE_LIST = 1 << 3,    /* providers leads to a section: providers */
    HAVE_HSM = 1 << 4,     /* hsm is in that list: name */
    HAVE_SECTION = 1 << 5, /* and has a section: section */
    HAVE_MODULE = 1 << 6,  /* the module file exists: module */
    HAVE_CONTEXT = 1 << 7  /* the token configuration is usable: t->ctx */
};

struct doctor {
    struct tool *t;
    struct json_object *results;
    size_t warned, failed;
    const char *check;   /* name of the check that is running */
    int report_fd;       /* in a child: results go to the parent through this pipe; else -1 */
    unsigned facts;      /* HAVE_* */
    char path[PATH_MAX]; /* the openssl.cnf that is examined */
    char *text;
    CONF *conf;
    const char *init, *providers, *name, *section; /* in conf's memory */
    char module[PATH_MAX];
};

/** One result. @p remedy NULL: nothing to do. */
void doctor_say(struct doctor *d, enum verdict verdict, const char *remedy, const char *fmt, ...)
    HSM_PRINTF(4, 5);

/** Run @p fn in a forked child, under a time limit: what it says is said here, and so is its crash. */
void doctor_in_child(struct doctor *d, void (*fn)(struct doctor *d));

/** Value of exactly this key in exactly this section (no fall-back to the unnamed section), or NULL. What
 * stands before a dot is no part of the key, as in libcrypto. */
const char *doctor_get(const struct doctor *d, const char *section, const char *key);
/** The oldest entry of OpenSSL's error queue, the cause of the others, as text; the queue is emptied. */
const char *doctor_openssl_error(char *out, size_t out_len);
/** Part of @p key behind the first dot, or all of it: how libcrypto reads its own words. */
const char *doctor_skip_dot(const char *key);

bool doctor_section_exists(const struct doctor *d, const char *section);

/** First character of @p text that is no blank. */
const char *doctor_skip_blanks(const char *text);
enum { DOCTOR_WORD_MAX = 64 };
/** If this line opens a section, its name; else @p section stays as it is. */
void doctor_note_section(const char *line, char section[DOCTOR_WORD_MAX]);

enum truth { TRUTH_ABSENT, TRUTH_ON, TRUTH_OFF, TRUTH_OTHER };
/** A boolean as releases after 3.1 read it. */
enum truth doctor_truth(const char *value);

typedef void doctor_check(struct doctor *d);

/* doctor_conf.c: the file, and the way to our section */
doctor_check check_environment, check_file, check_syntax, check_openssl_conf, check_providers, check_hsm,
    check_default, check_order;
/* doctor_section.c: our section, and the rest of the file */
doctor_check check_activate, check_keys, check_values, check_tokens, check_pin_text, check_properties,
    check_other_programs;
/* doctor_module.c: the module, and what libcrypto makes of it */
doctor_check check_module, check_module_load, check_activation;
/* doctor_token.c: token, PIN, and who may use them */
doctor_check check_context, check_token, check_token_file, check_pin_source, check_pin, check_user;
/* doctor_se05x.c: a chip on a bus */
doctor_check check_chip_spec, check_chip_node, check_chip;

/** Where a chip is reached: the device, or the socket of a simulator. NULL if this token is none. */
const char *doctor_chip_node(const struct hsm_token_spec *spec);
/** May the present user open @p path in this way (access(2))? @p what names it, in the line. */
void doctor_judge_access(struct doctor *d, const char *what, const char *path, int mode);

#endif
