/* SPDX-License-Identifier: Apache-2.0 */
/** What the commands of hsmctl share: options, the token they work on, files, prompts, output. */
#ifndef HSMCTL_TOOL_H
#define HSMCTL_TOOL_H

#include <sys/types.h>

#include <json-c/json.h>

#include "hsm/hsm.h"
#include "hsm/pubkey.h"

enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };
enum { TOOL_KEY_FILE_MAX = 64 * 1024, TOOL_ARGS_MAX = 2 };

/** Every option of every command; which command takes which is said by its usage line in main.c. */
struct options {
    const char *token, *config, *pin_source;
    const char *label, *pin_file, *so_pin_source, *new_pin_source, *group, *mode, *kdf_memory, *pin_tries;
    const char *type, *id, *usage, *passin, *passout, *out, *user, *value, *challenge, *ca;
    bool json, help, version;
    bool generate_pin, no_pin, force, extractable, protect, pubout, plain, der, so, hex, yes;
};

struct tool;

struct command {
    const char *name;  /* one or two words */
    const char *usage; /* arguments and options; an option is taken by the command that names it here */
    const char *help;
    size_t min_args, max_args;
    hsm_status (*run)(struct tool *t);
};

struct tool {
    struct options opt;
    const struct command *cmd;
    const char *arg[TOOL_ARGS_MAX];
    size_t arg_count;
    bool usage_error;    /* the status returned is a fault of the command line: exit 2 */
    struct hsm_ctx *ctx; /* NULL until tool_open() */
    size_t token_index;  /* which configured token, chosen by -t NAME */
};

/* ---- main.c, context.c -------------------------------------------------------------------------------- */

/** Record a fault of the command line (exit 2): `return tool_usage(t, ...)`. */
hsm_status tool_usage(struct tool *t, const char *fmt, ...) HSM_PRINTF(2, 3);

/** Configuration and context, as the options and the environment say. Opens no token. Once is enough. */
HSM_MUST_USE hsm_status tool_open(struct tool *t);
/** The token the command line chose, opened. */
HSM_MUST_USE hsm_status tool_token(struct tool *t, struct hsm_token **tok);
/**
 * A NAME of the command line: a label (UTF-8, no control characters, 1..HSM_LABEL_MAX bytes) or an hsm: URI.
 * @param uri  out: its parts, type set from @p type if the name left it open; hsm_uri_clear() it
 */
HSM_MUST_USE hsm_status tool_name(struct tool *t, const char *name, enum hsm_uri_type type,
                                  struct hsm_uri *uri);
/** The token @p uri speaks of (or the chosen one), opened, and logged in if the URI brings a PIN. */
HSM_MUST_USE hsm_status tool_uri_token(struct tool *t, const struct hsm_uri *uri, struct hsm_token **tok);
/** The one object of this class that NAME means. */
HSM_MUST_USE hsm_status tool_object(struct tool *t, const char *name, enum hsm_uri_type type,
                                    struct hsm_token **tok, struct hsm_object *obj);
/**
 * NAME and --id as the specification of a new object, and the token it goes to.
 * @param uri  out: storage that @p spec points into
 */
HSM_MUST_USE hsm_status tool_new_object(struct tool *t, enum hsm_class cls, struct hsm_uri *uri,
                                        struct hsm_object_spec *spec, struct hsm_token **tok);
/** Add what is to be said of one object. Calls of the token are allowed. */
typedef hsm_status tool_describe_fn(struct tool *t, struct hsm_token *tok, const struct hsm_object *obj,
                                    struct json_object *record);
/** Print a record for each object of this type; @p fields are the columns of the table, NULL-terminated. */
HSM_MUST_USE hsm_status tool_list(struct tool *t, enum hsm_uri_type type, const char *const fields[],
                                  tool_describe_fn *describe);
/** Delete after asking (or --yes), as SO with --so-pin-source. @p what is "key", "certificate" ... */
HSM_MUST_USE hsm_status tool_delete(struct tool *t, enum hsm_uri_type type, const char *what);
/** Whole number within bounds, or a usage error that names the option. */
HSM_MUST_USE hsm_status tool_number(struct tool *t, const char *what, const char *text, unsigned long min,
                                    unsigned long max, unsigned long *out);
/** Driver of the chosen token ("soft"), after tool_open(). */
const char *tool_driver(const struct tool *t);

/* ---- files.c ------------------------------------------------------------------------------------------ */

/** All of a file ("-": standard input) into locked memory; more than @p max bytes, or none, is an error.
 *  Free with tool_buf_free(). */
HSM_MUST_USE hsm_status tool_read_file(const char *path, size_t max, struct hsm_buf *out);
void tool_buf_free(struct hsm_buf *buf);
/** To standard output (@p path NULL) or, all or nothing, into a file of this mode. */
HSM_MUST_USE hsm_status tool_write_file(const char *path, struct hsm_bytes data, mode_t mode);
/** DER in PEM clothes, written as tool_write_file() does. */
HSM_MUST_USE hsm_status tool_write_pem(const char *path, const char *label, struct hsm_bytes der,
                                       mode_t mode);
/** Make the directory a file lives in, if only that last level is missing. */
HSM_MUST_USE hsm_status tool_make_parent(const char *path, mode_t mode);

/* ---- pins.c ------------------------------------------------------------------------------------------- */

/** Random, 64 hexadecimal digits: what --generate-pin writes. */
enum { TOOL_MACHINE_PIN_LEN = 64 };

/** A machine-made PIN on its way into its file: begin, then use the PIN, then commit (or abort). */
struct pin_file {
    char path[512];
    char staged[520]; /* where the PIN is until the commit; equals path when path did not exist */
    uid_t uid;
    gid_t gid;
    mode_t mode;
    bool written;
};

/** Read the PIN that a command works with. @p source NULL means: ask. A new PIN is asked for twice. */
HSM_MUST_USE hsm_status tool_pin(struct tool *t, const char *source, enum hsm_role role, bool is_new,
                                 struct hsm_buf *pin);
/**
 * Draw a machine PIN and write it, synced, where --pin-file or `pin-source = file:` says.
 * @param replace  the file may exist; the old one stays until pin_file_commit()
 */
HSM_MUST_USE hsm_status pin_file_begin(struct tool *t, bool replace, struct pin_file *pf,
                                       struct hsm_buf *pin);
HSM_MUST_USE hsm_status pin_file_commit(struct pin_file *pf);
void pin_file_abort(struct pin_file *pf);
/** A PIN a person can copy from paper: 125 random bits as XXXXX-XXXXX-XXXXX-XXXXX-XXXXX, no NUL. */
HSM_MUST_USE hsm_status tool_paper_pin(struct hsm_buf *pin);
/** Group id of --group, or (gid_t)-1 if it is not given. */
HSM_MUST_USE hsm_status tool_group(struct tool *t, gid_t *gid);

/* ---- prompt.c ----------------------------------------------------------------------------------------- */

/** Ask on the controlling terminal, without echo; the terminal is put right before a signal takes effect. */
HSM_MUST_USE hsm_status prompt_secret(const char *question, struct hsm_buf *secret);
/** The hsm_prompt_fn of this program. */
hsm_prompt_fn prompt_pin;
/** Say on the terminal of standard error, if it is one, that @p what takes time, and how much it has taken.
 */
void progress_begin(const char *what);
void progress_end(void);
/** y/N on the terminal. HSM_ERR_ARGUMENT if there is none: then --yes is needed. */
HSM_MUST_USE hsm_status prompt_confirm(const char *question, bool *yes);
/** Keep SIGINT, SIGTERM, SIGHUP waiting while two things must happen together; undone by signals_release().
 */
void signals_hold(void);
void signals_release(void);

/* ---- output.c ----------------------------------------------------------------------------------------- */

/** A list of records: JSON with --json, else a table of these fields (NULL-terminated). Consumes @p list. */
HSM_MUST_USE hsm_status out_list(struct tool *t, struct json_object *list, const char *const fields[]);
/** One record: JSON with --json, else a line per field. Consumes @p record. */
HSM_MUST_USE hsm_status out_record(struct tool *t, struct json_object *record);
/** One line of text; nothing with --json. */
void out_note(struct tool *t, const char *fmt, ...) HSM_PRINTF(2, 3);
/** Text that cannot steer a terminal: control characters become '?'. Cuts at out_len-1. */
const char *out_printable(const char *text, char *out, size_t out_len);
/** Add to a record; NULL text becomes null. */
void out_text(struct json_object *record, const char *field, const char *text);
void out_hex(struct json_object *record, const char *field, struct hsm_bytes bytes);
void out_uint(struct json_object *record, const char *field, uint64_t value);
void out_bool(struct json_object *record, const char *field, bool value);
void out_int(struct json_object *record, const char *field, int64_t value);
/** RFC 3339, UTC. */
void out_time(struct json_object *record, const char *field, int64_t seconds);
/** Did all output reach its place? Called once at the end. */
HSM_MUST_USE hsm_status out_finish(void);
/** Two hexadecimal digits a byte. out has 2*len+1 bytes. */
void hex_encode(struct hsm_bytes in, char *out);
/** HSM_ERR_ARGUMENT for an odd length, a foreign character or too many bytes. */
HSM_MUST_USE hsm_status hex_decode(const char *text, struct hsm_buf *out);

/* ---- commands ----------------------------------------------------------------------------------------- */

hsm_status cmd_token_init(struct tool *t);
hsm_status cmd_token_info(struct tool *t);
hsm_status cmd_token_list(struct tool *t);
hsm_status cmd_key_generate(struct tool *t);
hsm_status cmd_key_import(struct tool *t);
hsm_status cmd_key_list(struct tool *t);
hsm_status cmd_key_show(struct tool *t);
hsm_status cmd_key_ref(struct tool *t);
hsm_status cmd_key_export(struct tool *t);
hsm_status cmd_key_delete(struct tool *t);
hsm_status cmd_key_attest(struct tool *t);
hsm_status cmd_cert_put(struct tool *t);
hsm_status cmd_cert_get(struct tool *t);
hsm_status cmd_cert_list(struct tool *t);
hsm_status cmd_cert_delete(struct tool *t);
hsm_status cmd_data_put(struct tool *t);
hsm_status cmd_data_get(struct tool *t);
hsm_status cmd_data_list(struct tool *t);
hsm_status cmd_data_delete(struct tool *t);
hsm_status cmd_counter_create(struct tool *t);
hsm_status cmd_counter_get(struct tool *t);
hsm_status cmd_counter_increment(struct tool *t);
hsm_status cmd_counter_list(struct tool *t);
hsm_status cmd_counter_delete(struct tool *t);
hsm_status cmd_pin_change(struct tool *t);
hsm_status cmd_pin_unblock(struct tool *t);
hsm_status cmd_random(struct tool *t);
hsm_status cmd_selftest(struct tool *t);
hsm_status cmd_doctor(struct tool *t);
hsm_status cmd_bus_scan(struct tool *t);
hsm_status cmd_se05x(struct tool *t);
hsm_status cmd_se05x_rotate_keys(struct tool *t);

#endif
