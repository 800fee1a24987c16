/* descriptors: numbers that change hands, on paths that a library sees and on others.
 *
 *   descriptors reused      closed past the C library, then another file's
 *   descriptors taken       dup2 over another socket's number, then close
 *   descriptors cancelled   closed by a thread that is cancelled as it does so
 *   descriptors outlived    fork; the child's main thread ends before its last one
 *
 * Sends to 239.1.1.1 port 5000, or joins it, and prints what each call answers. Is not
 * aware of any library.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in group = {.sin_family = AF_INET};

static void say(const char *call, long answer) {
    printf("%s: %ld%s%s\n", call, answer, answer < 0 ? " " : "", answer < 0 ? strerrorname_np(errno) : "");
    fflush(stdout);
}

static int sender(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    say("sendto", sendto(fd, "hi", 2, 0, (struct sockaddr *)&group, sizeof group));
    return fd;
}

static int bound(int port) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    say("bind", bind(fd, (struct sockaddr *)&any, sizeof any));
    return fd;
}

static int joined(int port) {
    struct ip_mreqn request = {.imr_multiaddr = group.sin_addr};
    int fd = bound(port);
    say("join", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request));
    return fd;
}

/* What a runtime does that closes by number: the next file has the number. */
static void reused(void) {
    struct iovec part = {"abc", 3};
    for (int vector = 0; vector < 2; vector++) {
        int fd = sender(), pipes[2];
        syscall(SYS_close, fd);
        pipe(pipes);
        dup2(pipes[1], 9);
        if (pipes[0] != fd)
            printf("the number is not the same\n");
        int file = open("/dev/null", O_WRONLY);
        syscall(SYS_dup3, file, fd, 0);
        say("write", vector ? writev(fd, &part, 1) : write(fd, "abc", 3));
        say("close", close(fd));
        close(file);
        close(pipes[1]);
        close(9);
    }
}

static void taken(void) {
    int fd = sender(), file = open("/dev/null", O_WRONLY);
    /* Without a library no other socket is open: then a number of its own will do. */
    int number = 100;
    for (int other = 0, kind; other < 1024; other++)
        if (other != fd && !getsockopt(other, SOL_SOCKET, SO_TYPE, &kind, &(socklen_t){sizeof kind}) && kind == SOCK_DGRAM)
            number = other;
    printf("dup2: %d\n", dup2(file, number) == number);
    say("write", write(number, "abc", 3));
    say("close", close(number));
    say("close again", close(number));
    say("sendto", sendto(fd, "hi", 2, 0, (struct sockaddr *)&group, sizeof group));
}

static int theirs;

static void close_theirs(void *unused) { (void)unused; say("close", close(theirs)); }

static void *closes(void *unused) {
    (void)unused;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_cleanup_push(close_theirs, NULL);
    close(theirs);
    printf("not cancelled\n");
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(void) {
    pthread_t thread;
    theirs = joined(5000);
    pthread_create(&thread, NULL, closes, NULL);
    pthread_join(thread, NULL);
    /* It was closed, so its port is free. */
    bound(5000);
}

static void *works(void *unused) {
    (void)unused;
    sleep(3);
    say("the last thread's work is done", 0);
    return NULL;
}

static void outlived(void) {
    pthread_t thread;
    int status = -1, fd = joined(5000);
    pid_t child = fork();
    if (child == 0) {
        close(fd);
        joined(5001);
        pthread_create(&thread, NULL, works, NULL);
        pthread_exit(NULL);
    }
    waitpid(child, &status, 0);
    say("child", status);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    group.sin_port = htons(5000);
    inet_pton(AF_INET, "239.1.1.1", &group.sin_addr);
    if (!strcmp(what, "reused"))
        reused();
    else if (!strcmp(what, "taken"))
        taken();
    else if (!strcmp(what, "cancelled"))
        cancelled();
    else if (!strcmp(what, "outlived"))
        outlived();
    else
        return 2;
    return 0;
}
