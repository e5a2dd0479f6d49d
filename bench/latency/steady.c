// An open-loop HTTP/1.1 client: requests leave at fixed times whatever has become of those before, over connections that stay, and
// each is measured from the time it was planned for (no coordinated omission). Several targets share a run in short slices, so that all
// of them meet the same noise. The next request after a slow answer waits for a free connection, and that counts.
//
// steady RATE SLICE_MS CYCLES CONNECTIONS REQUEST_FILE NAME:PORT...
// prints a line for each request: CYCLE NAME NANOSECONDS; and last the lateness of the client's own timer: - lag NANOSECONDS.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef long long ns;
struct connection { int fd, target, used, cycle; ns planned; char in[16384]; };
struct target { const char *name; int port; struct connection **idle; int head, count; ns *queue; long first, last; };

static struct target *targets;
static int target_count, connection_count;
static char request[8192];
static int request_length;
static long done, asked, kept;
static struct { int cycle, target; ns took; } *results;

static ns now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what, const char *name) {
  fprintf(stderr, "steady: %s (%s): %s\n", what, name, strerror(errno));
  exit(1);
}

static void ask(struct connection *c, ns planned, int cycle) {
  c->planned = planned;
  c->cycle = cycle;
  c->used = 0;
  if (write(c->fd, request, request_length) != request_length) fail("write", targets[c->target].name);
}

/* Whether the answer is whole. */
static int whole(struct connection *c) {
  c->in[c->used] = 0;
  char *end = strstr(c->in, "\r\n\r\n");
  if (!end) return 0;
  if (strncmp(c->in, "HTTP/1.1 200", 12) != 0) {
    fprintf(stderr, "steady: %s answered %.60s\n", targets[c->target].name, c->in);
    exit(1);
  }
  char *length = strcasestr(c->in, "\r\ncontent-length:");
  if (!length || length > end) fail("no content-length", targets[c->target].name);
  return c->used >= end + 4 - c->in + atoi(length + 17);
}

static void release(struct connection *c) {
  struct target *t = &targets[c->target];
  if (t->first < t->last) {
    ns planned = t->queue[t->first % 1000000];
    t->first++;
    ask(c, planned, c->cycle);
    return;
  }
  t->idle[(t->head + t->count++) % connection_count] = c;
}

static void receive(struct connection *c) {
  ssize_t got = read(c->fd, c->in + c->used, sizeof c->in - 1 - c->used);
  if (got <= 0) {
    if (got < 0 && errno == EAGAIN) return;
    fail("closed", targets[c->target].name);
  }
  c->used += got;
  if (!whole(c)) return;
  results[kept].cycle = c->cycle;
  results[kept].target = c->target;
  results[kept++].took = now() - c->planned;
  done++;
  release(c);
}

int main(int argc, char **argv) {
  if (argc < 7) return 2;
  double rate = atof(argv[1]);
  ns interval = 1e9 / rate, slice = atof(argv[2]) * 1e6, gap = 10000000;
  int cycles = atoi(argv[3]);
  connection_count = atoi(argv[4]);
  FILE *file = fopen(argv[5], "r");
  if (!file) fail("open", argv[5]);
  request_length = fread(request, 1, sizeof request, file);
  target_count = argc - 6;
  targets = calloc(target_count, sizeof *targets);
  long each = slice / interval, total = each * cycles * target_count;
  results = calloc(total, sizeof *results);
  ns *lag = calloc(total, sizeof *lag);
  prctl(PR_SET_TIMERSLACK, 1);
  mlockall(MCL_CURRENT);
  int loop = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];
  epoll_ctl(loop, EPOLL_CTL_ADD, timer, &event);
  for (int i = 0; i < target_count; i++) {
    struct target *t = &targets[i];
    t->name = strtok(argv[6 + i], ":");
    t->port = atoi(strtok(NULL, ":"));
    t->idle = calloc(connection_count, sizeof *t->idle);
    t->queue = calloc(1000000, sizeof *t->queue);
    for (int k = 0; k < connection_count; k++) {
      struct connection *c = calloc(1, sizeof *c);
      struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
      int one = 1;
      c->target = i;
      c->fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect", t->name);
      setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      fcntl(c->fd, F_SETFL, O_NONBLOCK);
      event.data.ptr = c;
      epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &event);
      t->idle[t->count++] = c;
    }
  }
  ns start = now() + 50000000;
  while (done < total) {
    if (asked < total) {
      long in = asked / each;
      ns planned = start + in * (slice + gap) + (asked % each) * interval;
      ns at = now();
      if (at >= planned) {
        struct target *t = &targets[in % target_count];
        lag[asked++] = at - planned;
        if (t->count > 0) {
          struct connection *c = t->idle[t->head];
          t->head = (t->head + 1) % connection_count;
          t->count--;
          ask(c, planned, in / target_count);
        } else t->queue[t->last++ % 1000000] = planned;
        continue;
      }
      struct itimerspec when = {.it_value = {planned / 1000000000, planned % 1000000000}};
      timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
    int ready = epoll_wait(loop, events, 64, 5000);
    if (ready == 0) {
      fprintf(stderr, "steady: no answer in 5 s\n");
      return 1;
    }
    for (int i = 0; i < ready; i++) {
      if (events[i].data.ptr) receive(events[i].data.ptr);
      else {
        unsigned long long expired;
        if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) fail("timer", "");
      }
    }
  }
  for (long i = 0; i < kept; i++) printf("%d %s %lld\n", results[i].cycle, targets[results[i].target].name, results[i].took);
  for (long i = 0; i < total; i++) printf("- lag %lld\n", lag[i]);
  return 0;
}
