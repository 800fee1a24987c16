/* Every row of the man pages' RETURN VALUE and ERRORS, caused: `rows list` says which
   (call, value, case), `rows CALL VALUE CASE` causes one and ends with 0 where the call
   gave what its page says. A process each: limits, filters and forks stay in it. C11. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <flexcast.h>
#include <stdbool.h>
#include <unistd.h>

#include "sockets.h"

struct row {
	const char *call, *value, *name;
	void (*cause)(void);
	const struct row *next;
};
static const struct row *rows;

/* CASE(call, value, name) { ... }: the row of flexcast_CALL that its page marks so. */
#define CASE(call, value, name)                                                    \
	static void call##_##value##_##name(void);                                 \
	__attribute__((constructor)) static void add_##call##_##value##_##name(void) \
	{                                                                          \
		static struct row row = { "flexcast_" #call, #value, #name,        \
					  call##_##value##_##name, NULL };         \
		row.next = rows;                                                   \
		rows = &row;                                                       \
	}                                                                          \
	static void call##_##value##_##name(void)

/* A call that succeeds leaves errno alone. */
#define GIVES(call, number)                                                        \
	do {                                                                       \
		errno = 4711;                                                      \
		CHECK((call) == (number));                                         \
		CHECK(errno == 4711);                                              \
	} while (0)

#include "rows/means.c"

#include "rows/descriptors.c"
#include "rows/making.c"
#include "rows/naming.c"
#include "rows/options.c"
#include "rows/receiving.c"
#include "rows/sending.c"

#include "rows/relaying.c"

int main(int argc, char **argv)
{
	alarm(60);
	for (const struct row *row = rows; row; row = row->next) {
		if (argc == 2 && strcmp(argv[1], "list") == 0) {
			printf("%s %s %s\n", row->call, row->value, row->name);
		} else if (argc == 4 && strcmp(argv[1], row->call) == 0 &&
			   strcmp(argv[2], row->value) == 0 && strcmp(argv[3], row->name) == 0) {
			row->cause();
			return 0;
		}
	}
	return argc != 2;
}
