// SPDX-License-Identifier: GPL-2.0-only
/*
 * An I2C adapter whose messages are carried out by a user-space program: a bus for tests without hardware.
 * i2c-core and i2c-dev above it are the kernel's own.
 *
 * A program opens /dev/i2c-userbus and writes a setup record, which registers an adapter; closing removes it,
 * also while others have /dev/i2c-N open (they get ENODEV). Then read() gives one message, write() answers
 * it. What is not answered within the adapter's timeout (2 s, or I2C_TIMEOUT) ends with ETIMEDOUT. Integers
 * are big-endian.
 *
 *   setup    bus(2) flags(2) max_write(2) max_read(2)
 *   message  number(4) op(1) addr(1) len(2) [data]
 *   answer   number(4) status(4) [data]
 *
 * - flags: bit 0, the adapter refuses empty messages; a maximum of 0: no limit
 * - op: 'W' (data follows) or 'R'; addr: bit 7, no STOP follows
 * - status: 0, acknowledged (len bytes of data after an 'R'); -errno, what the transfer returns; 1, the
 * transfer ends here, short, without an error
 */
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/i2c.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <asm/unaligned.h>

enum {
    SETUP_LEN = 8,
    SETUP_NO_EMPTY = 1,
    MESSAGE_HEADER = 8,
    ANSWER_HEADER = 8,
    ANSWER_SHORT = 1,
    NO_STOP = 0x80,
    TIMEOUT_MS = 2000
};

struct userbus {
    struct i2c_adapter adapter;
    struct i2c_adapter_quirks quirks;
    struct work_struct removal;
    struct mutex lock;          /* all below */
    wait_queue_head_t posted;   /* the program waits for a message */
    struct completion answered; /* a transfer waits for the answer */
    const struct i2c_msg *msg;  /* under way; NULL: none */
    bool stop;                  /* a STOP follows it */
    bool taken;                 /* the program has read it */
    u32 number;                 /* of the message: a late answer must not be taken for that of the next one */
    int status;
    bool set_up, registered, closed;
};

/* Removing an adapter waits until the last /dev/i2c-N is closed: not in the close of a program that ends. */
static struct workqueue_struct *removals;

/* ---- the adapter, called by i2c-core ---- */

static bool userbus_post(struct userbus *b, const struct i2c_msg *msg, bool stop)
{
    bool open;

    mutex_lock(&b->lock);
    open = !b->closed;
    if (open) {
        reinit_completion(&b->answered);
        b->msg = msg;
        b->stop = stop;
        b->taken = false;
        b->number++;
        b->status = -ETIMEDOUT;
    }
    mutex_unlock(&b->lock);
    wake_up(&b->posted);
    return open;
}

static int userbus_message(struct userbus *b, const struct i2c_msg *msg, bool stop)
{
    int status;

    if (msg->flags & ~(I2C_M_RD | I2C_M_DMA_SAFE))
        return -EOPNOTSUPP;
    if (!userbus_post(b, msg, stop))
        return -ENODEV;
    wait_for_completion_timeout(&b->answered, b->adapter.timeout);
    mutex_lock(&b->lock);
    b->msg = NULL;
    status = b->status;
    mutex_unlock(&b->lock);
    return status;
}

static int userbus_transfer(struct i2c_adapter *adapter, struct i2c_msg *msgs, int count)
{
    struct userbus *b = i2c_get_adapdata(adapter);
    int i, status;

    for (i = 0; i < count; i++) {
        status = userbus_message(b, &msgs[i], i + 1 == count);
        if (status == ANSWER_SHORT)
            return i;
        if (status)
            return status;
    }
    return count;
}

static u32 userbus_functionality(struct i2c_adapter *adapter)
{
    return I2C_FUNC_I2C |
           (adapter->quirks->flags & I2C_AQ_NO_ZERO_LEN ? I2C_FUNC_SMBUS_EMUL & ~I2C_FUNC_SMBUS_QUICK
                                                        : I2C_FUNC_SMBUS_EMUL);
}

static const struct i2c_algorithm userbus_algorithm = {
    .master_xfer = userbus_transfer,
    .functionality = userbus_functionality,
};

/* ---- the program at /dev/i2c-userbus ---- */

static void userbus_remove(struct work_struct *work)
{
    struct userbus *b = container_of(work, struct userbus, removal);

    i2c_del_adapter(&b->adapter);
    kfree(b);
}

static int userbus_open(struct inode *inode, struct file *file)
{
    struct userbus *b = kzalloc(sizeof(*b), GFP_KERNEL);

    if (!b)
        return -ENOMEM;
    mutex_init(&b->lock);
    init_waitqueue_head(&b->posted);
    init_completion(&b->answered);
    INIT_WORK(&b->removal, userbus_remove);
    file->private_data = b;
    return nonseekable_open(inode, file);
}

static int userbus_release(struct inode *inode, struct file *file)
{
    struct userbus *b = file->private_data;

    if (!b->registered) {
        kfree(b);
        return 0;
    }
    mutex_lock(&b->lock);
    b->closed = true;
    b->msg = NULL;
    b->status = -ENODEV;
    mutex_unlock(&b->lock);
    complete(&b->answered);
    queue_work(removals, &b->removal);
    return 0;
}

/* Not under b->lock: a driver that finds its chip sends messages at once. */
static int userbus_register(struct userbus *b, const u8 *setup)
{
    int err;

    b->quirks.flags = get_unaligned_be16(setup + 2) & SETUP_NO_EMPTY ? I2C_AQ_NO_ZERO_LEN : 0;
    b->quirks.max_write_len = get_unaligned_be16(setup + 4);
    b->quirks.max_read_len = get_unaligned_be16(setup + 6);
    b->adapter.owner = THIS_MODULE;
    b->adapter.algo = &userbus_algorithm;
    b->adapter.quirks = &b->quirks;
    b->adapter.timeout = msecs_to_jiffies(TIMEOUT_MS);
    b->adapter.nr = get_unaligned_be16(setup);
    strscpy(b->adapter.name, "user-space I2C bus", sizeof(b->adapter.name));
    i2c_set_adapdata(&b->adapter, b);
    err = i2c_add_numbered_adapter(&b->adapter);
    mutex_lock(&b->lock);
    b->registered = !err;
    mutex_unlock(&b->lock);
    return err;
}

/* Under b->lock. The message's buffer is valid as long as b->msg points to it. */
static ssize_t userbus_take(struct userbus *b, char __user *buf, size_t size)
{
    u8 header[MESSAGE_HEADER];
    size_t data_len;

    if (!b->msg || b->taken)
        return -EAGAIN;
    data_len = b->msg->flags & I2C_M_RD ? 0 : b->msg->len;
    if (size < sizeof(header) + data_len)
        return -EMSGSIZE;
    put_unaligned_be32(b->number, header);
    header[4] = b->msg->flags & I2C_M_RD ? 'R' : 'W';
    header[5] = b->msg->addr | (b->stop ? 0 : NO_STOP);
    put_unaligned_be16(b->msg->len, header + 6);
    if (copy_to_user(buf, header, sizeof(header)) ||
        copy_to_user(buf + sizeof(header), b->msg->buf, data_len))
        return -EFAULT;
    b->taken = true;
    return sizeof(header) + data_len;
}

static ssize_t userbus_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
    struct userbus *b = file->private_data;
    ssize_t ret;

    for (;;) {
        mutex_lock(&b->lock);
        ret = b->registered ? userbus_take(b, buf, size) : -ENOTCONN;
        mutex_unlock(&b->lock);
        if (ret != -EAGAIN || file->f_flags & O_NONBLOCK)
            return ret;
        if (wait_event_interruptible(b->posted, READ_ONCE(b->msg) && !READ_ONCE(b->taken)))
            return -ERESTARTSYS;
    }
}

/* Under b->lock. */
static int userbus_answer(struct userbus *b, const u8 *header, const char __user *data, size_t data_len)
{
    int status = (int)get_unaligned_be32(header + 4);
    bool has_data = !status && b->msg && b->msg->flags & I2C_M_RD;

    if (!b->msg || !b->taken || get_unaligned_be32(header) != b->number)
        return -ESTALE; /* nobody waits for it any more */
    if (status > ANSWER_SHORT || status < -MAX_ERRNO || data_len != (has_data ? b->msg->len : 0))
        return -EINVAL;
    if (copy_from_user(b->msg->buf, data, data_len))
        return -EFAULT;
    b->status = status;
    b->msg = NULL;
    complete(&b->answered);
    return 0;
}

static ssize_t userbus_write(struct file *file, const char __user *buf, size_t size, loff_t *pos)
{
    struct userbus *b = file->private_data;
    u8 header[ANSWER_HEADER];
    int err = 0;
    bool setup;

    BUILD_BUG_ON(SETUP_LEN != ANSWER_HEADER);
    if (size < sizeof(header))
        return -EINVAL;
    if (copy_from_user(header, buf, sizeof(header)))
        return -EFAULT;
    mutex_lock(&b->lock);
    setup = !b->set_up;
    b->set_up = true;
    if (!setup)
        err = userbus_answer(b, header, buf + sizeof(header), size - sizeof(header));
    mutex_unlock(&b->lock);
    if (setup)
        err = size == SETUP_LEN ? userbus_register(b, header) : -EINVAL;
    return err ? err : (ssize_t)size;
}

static __poll_t userbus_poll(struct file *file, poll_table *table)
{
    struct userbus *b = file->private_data;
    __poll_t events = EPOLLOUT | EPOLLWRNORM;

    poll_wait(file, &b->posted, table);
    mutex_lock(&b->lock);
    if (b->msg && !b->taken)
        events |= EPOLLIN | EPOLLRDNORM;
    mutex_unlock(&b->lock);
    return events;
}

static const struct file_operations userbus_operations = {
    .owner = THIS_MODULE,
    .open = userbus_open,
    .release = userbus_release,
    .read = userbus_read,
    .write = userbus_write,
    .poll = userbus_poll,
    .llseek = no_llseek,
};

static struct miscdevice userbus_device = {
    .minor = MISC_DYNAMIC_MINOR,
    .name = "i2c-userbus",
    .fops = &userbus_operations,
    .mode = 0600,
};

static int __init userbus_init(void)
{
    int err;

    removals = alloc_workqueue("i2c-userbus", WQ_UNBOUND, 0);
    if (!removals)
        return -ENOMEM;
    err = misc_register(&userbus_device);
    if (err)
        destroy_workqueue(removals);
    return err;
}

static void __exit userbus_exit(void)
{
    misc_deregister(&userbus_device);
    destroy_workqueue(removals); /* waits for removals under way */
}

module_init(userbus_init);
module_exit(userbus_exit);
MODULE_DESCRIPTION("I2C adapter carried out by a user-space program");
MODULE_LICENSE("GPL");
