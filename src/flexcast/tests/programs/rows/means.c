/* How rows are caused: a process that lacks something, a child, a signal, a pair of a
   sender and a receiver. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NUMBER_OF(array) (sizeof(array) / sizeof *(array))

static int plain(void)
{
	int fd = flexcast_socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(fd >= 0);
	return fd;
}

static int bound(uint64_t id)
{
	struct flexcast_channel c = { INADDR_ANY, id };
	int fd = plain();
	CHECK(flexcast_bind(fd, &c, sizeof c) == 0);
	return fd;
}

/* A listening socket, one that receives, and what was accepted for it. */
struct pair {
	int listens, receives, sends;
};

static struct pair pair(void)
{
	struct pair p;
	p.listens = listener(7, 0);
	p.receives = receiver(7);
	p.sends = flexcast_accept(p.listens, NULL, NULL);
	CHECK(p.sends >= 0);
	limit(p.sends, 5000);
	return p;
}

/* The receiver leaves, and the sender knows. */
static struct pair deserted(void)
{
	struct pair p = pair();
	CHECK(flexcast_close(p.receives) == 0);
	CHECK(is_readable(p.sends, 5000));
	return p;
}

static int refuse(const struct flexcast_request *request, void *argument)
{
	(void)request;
	(void)argument;
	return 0;
}

/* A receiver that the sender refuses. */
static int refused(void)
{
	struct flexcast_on_request on = { refuse, NULL };
	int fd = bound(7);
	CHECK(flexcast_setsockopt(fd, SOL_FLEXCAST, FLEXCAST_ON_REQUEST, &on, sizeof on) == 0);
	CHECK(flexcast_listen(fd, 1) == 0);
	return receiver(7);
}

/* From now on there is no number left for a new descriptor. */
static void fill_table(void)
{
	int next = dup(0);
	CHECK(next >= 0);
	close(next);
	struct rlimit limit = { (rlim_t)next, (rlim_t)next };
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* From now on these system calls of this thread fail. */
static void deny(const int *calls, size_t count, int error)
{
	struct sock_filter filter[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						   offsetof(struct seccomp_data, nr)) };
	unsigned short at = 1;
	for (size_t n = 0; n < count; n++) {
		filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							    (unsigned)calls[n], 0, 1);
		filter[at++] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
	}
	filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { at, filter };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void deny_sockets(int error)
{
	const int calls[] = { SYS_socket };
	deny(calls, NUMBER_OF(calls), error);
}

static void deny_threads(void)
{
	const int calls[] = { SYS_clone, SYS_clone3 };
	deny(calls, NUMBER_OF(calls), EAGAIN);
}

/* IN_CHILD({ ... }): in a forked child, which is well. */
#define IN_CHILD(what)                                                             \
	do {                                                                       \
		pid_t child = fork();                                              \
		CHECK(child >= 0);                                                 \
		if (child == 0) {                                                  \
			what;                                                      \
			exit(0);                                                   \
		}                                                                  \
		int status;                                                        \
		CHECK(waitpid(child, &status, 0) == child && status == 0);         \
	} while (0)

/* The thread of this process that has this name. */
static pid_t thread_named(const char *name, pid_t process)
{
	char path[64], comm[32];
	snprintf(path, sizeof path, "/proc/%d/task", process);
	DIR *tasks = opendir(path);
	CHECK(tasks != NULL);
	for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
		snprintf(path, sizeof path, "/proc/%d/task/%.10s/comm", process, task->d_name);
		FILE *file = fopen(path, "r");
		if (!file)
			continue;
		size_t length = fread(comm, 1, sizeof comm - 1, file);
		fclose(file);
		comm[length] = 0;
		if (strcmp(comm, name) == 0)
			return atoi(task->d_name);
	}
	CHECK(!"no such thread");
	return 0;
}

/* A thread of the library stands still, as under a debugger: a child is that. */
static void stop_thread(const char *name)
{
	int ready[2];
	pid_t here = getpid();
	CHECK(pipe(ready) == 0);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		pid_t thread = thread_named(name, here);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(ptrace(PTRACE_SEIZE, thread, NULL, NULL) == 0);
		CHECK(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0);
		CHECK(waitpid(thread, NULL, __WALL) == thread);
		CHECK(write(ready[1], "!", 1) == 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	char told;
	CHECK(read(ready[0], &told, 1) == 1);
}

/* It is killed, and gone when this returns. */
static void kill_child(pid_t child)
{
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

/* IN_ORPHAN(before, what): `what` in a child of the process that has done `before`, and
   is gone. */
#define IN_ORPHAN(before, what)                                                    \
	do {                                                                       \
		int well[2];                                                       \
		char yes = 'y';                                                    \
		CHECK(pipe(well) == 0);                                            \
		pid_t parent = fork();                                             \
		CHECK(parent >= 0);                                                \
		if (parent == 0) {                                                 \
			before;                                                    \
			parent = getpid();                                         \
			if (fork() != 0)                                           \
				_exit(0);                                          \
			while (getppid() == parent)                                \
				usleep(1000);                                      \
			what;                                                      \
			CHECK(write(well[1], &yes, 1) == 1);                       \
			exit(0);                                                   \
		}                                                                  \
		close(well[1]);                                                    \
		CHECK(waitpid(parent, NULL, 0) == parent);                         \
		CHECK(read(well[0], &yes, 1) == 1);                                \
	} while (0)

static void nothing(int signal)
{
	(void)signal;
}

/* A signal comes in 50 ms, and every 50 ms: the first may be too early. */
static void expect_signal(void)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { { 0, 50000 }, { 0, 50000 } };
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void set_nonblocking(int fd)
{
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
}
