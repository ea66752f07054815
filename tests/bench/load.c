// A load client in C: one epoll thread, keep-alive HTTP/1.1, one POST after the other on each connection.
//
//   cc -O2 -o load load.c && ./load PORT CONNS SECONDS stream|json PATH KEY [BODY_BYTES [RATE]]
//
// RATE (requests a second over all connections, evenly spaced) turns the closed loop into a paced one; the clock of a request
// starts when it was due, so a late start counts. After SECONDS what has begun is read to its end (10 s at most): the cost of a
// stream that is cut is not the cost of its tokens. Prints one JSON line: requests, tokens, errors and percentiles in
// microseconds of the request, of the first byte, of the first token, and of a token's age (fakeup's stamp to our read, the
// same machine's clock). Bodies of `stream` ask for the final usage, as a client that meters does.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static const long GRACE_NS = 10000000000L;

enum { IN_MAX = 65536, SAMPLES_MAX = 4000000, STAMP = 18 };  // a stamp is "t=" and 16 hex digits

typedef struct {
  int fd, kept;
  bool busy, has_head, first_byte, first_token;
  long size, seen, began;  // size: content-length, or -1 for chunks
  char in[IN_MAX + 1];
} Conn;

typedef struct {
  unsigned *tenths;  // of a microsecond
  long count;
} Samples;

static Samples request_time, first_byte, first_token, age;
static long requests, tokens, errors, now_ns;
static double interval_ns;
static long next_due, ends;
static bool streaming;
static int running;
static char *request;
static int request_length, epoll_fd;
static struct sockaddr_in server;

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void add(Samples *s, long ns) {
  if (s->count < SAMPLES_MAX) s->tenths[s->count++] = ns > 0 ? ns / 100 : 0;
}

static int ascending(const void *a, const void *b) {
  unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
  return x < y ? -1 : x > y;
}

static double percentile(const Samples *s, double p) { return s->count ? s->tenths[(long)(p * (s->count - 1))] / 10.0 : 0; }

static void start(Conn *c, long began) {
  running += !c->busy;
  c->busy = true;
  c->has_head = c->first_byte = c->first_token = false;
  c->kept = 0;
  c->size = -1;
  c->seen = 0;
  c->began = began;
  if (send(c->fd, request, request_length, MSG_NOSIGNAL) != request_length) errors++;
}

static void dial(Conn *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  c->busy = false;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (void *)&server, sizeof server)) perror("load: connect"), exit(1);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
  if (!interval_ns && now_ns < ends) start(c, now());
}

// Reads stamps in what has come; keeps an unfinished tail for the next time. Returns bytes to keep.
static int read_stamps(Conn *c, const char *at, const char *end) {
  for (const char *stamp; (stamp = memmem(at, end - at, "t=0", 3)) && stamp + STAMP <= end; at = stamp + STAMP) {
    tokens++;
    add(&age, now_ns - strtol(stamp + 2, 0, 16));
    if (!c->first_token) c->first_token = true, add(&first_token, now_ns - c->began);
  }
  int keep = end - at < STAMP ? end - at : STAMP - 1;
  memmove(c->in, end - keep, keep);
  return keep;
}

// Takes the head off. Returns where the body begins, or null while the head isn't whole.
static char *read_head(Conn *c, int length) {
  char *body = memmem(c->in, length, "\r\n\r\n", 4);
  if (!body) return 0;
  if (strncmp(c->in + 9, "200", 3) && ++errors < 3) fprintf(stderr, "load: %.300s\n", c->in);
  char *field = strcasestr(c->in, "content-length:");
  if (field && field < body) c->size = atol(field + 15);
  c->has_head = true;
  return body + 4;
}

static void finish(Conn *c) {
  requests++;
  add(&request_time, now_ns - c->began);
  c->busy = false;
  running--;
  if (!interval_ns && now_ns < ends) start(c, now());
}

static void received(Conn *c, int got) {
  if (!c->first_byte) c->first_byte = true, add(&first_byte, now_ns - c->began);
  int length = c->kept + got, fresh = got;
  char *at = c->in;
  c->in[length] = 0;
  if (!c->has_head) {
    if (!(at = read_head(c, length))) { c->kept = length; return; }
    fresh = c->in + length - at;
  }
  char *end = c->in + length;
  c->seen += fresh;
  bool is_whole = c->size >= 0 ? c->seen >= c->size : length >= 5 && !memcmp(end - 5, "0\r\n\r\n", 5);
  c->kept = streaming ? read_stamps(c, at, end) : 0;
  if (!streaming && c->size < 0) {  // a chunked whole answer: its end may be cut anywhere
    c->kept = length < 5 ? length : 4;
    memmove(c->in, end - c->kept, c->kept);
  }
  if (is_whole) finish(c);
}

static void start_due(Conn *conns, int count) {
  static int turn;
  for (int tried = 0; next_due <= now_ns && tried < count; tried++) {
    Conn *c = &conns[turn++ % count];
    if (c->busy) continue;
    start(c, next_due);
    next_due += interval_ns;
  }
}

static void build_request(const char *path, const char *key, int pad) {
  char *body, *filler = malloc(pad + 1);
  memset(filler, 'x', pad);
  filler[pad] = 0;
  const char *options = streaming ? ",\"stream_options\":{\"include_usage\":true}" : "";
  int length = asprintf(&body, "{\"model\":\"muse\",\"stream\":%s%s,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
                        "\"max_tokens\":64}", streaming ? "true" : "false", options, filler);
  request_length = asprintf(&request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\ncontent-type: "
                            "application/json\r\ncontent-length: %d\r\n\r\n%s", path, key, length, body);
}

static void print_percentiles(const char *name, Samples *s) {
  qsort(s->tenths, s->count, sizeof *s->tenths, ascending);
  printf(",\"%s_us\":[%.1f,%.1f]", name, percentile(s, .5), percentile(s, .99));
}

int main(int argc, char **argv) {
  if (argc < 7) return fprintf(stderr, "usage: load PORT CONNS SECONDS stream|json PATH KEY [BODY_BYTES [RATE]]\n"), 2;
  int count = atoi(argv[2]);
  double seconds = atof(argv[3]), rate = argc > 8 ? atof(argv[8]) : 0;
  streaming = !strcmp(argv[4], "stream");
  build_request(argv[5], argv[6], argc > 7 ? atoi(argv[7]) : 200);
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  interval_ns = rate > 0 ? 1e9 / rate : 0;
  Samples *all[] = {&request_time, &first_byte, &first_token, &age};
  for (int i = 0; i < 4; i++) all[i]->tenths = malloc(SAMPLES_MAX * sizeof(unsigned));
  epoll_fd = epoll_create1(0);
  Conn *conns = calloc(count, sizeof *conns);
  long began = next_due = now();
  ends = began + seconds * 1e9;
  for (int i = 0; i < count; i++) dial(&conns[i]);
  struct epoll_event events[512];
  while ((now_ns = now()) < ends || (running && now_ns < ends + GRACE_NS)) {
    if (interval_ns && now_ns < ends) start_due(conns, count);
    long wait_ns = interval_ns && now_ns < ends && next_due - now_ns < 100000000L ? next_due - now_ns : 100000000L;
    struct timespec wait = {.tv_nsec = wait_ns > 0 ? wait_ns : 1000000};
    int n = epoll_pwait2(epoll_fd, events, 512, &wait, 0);
    now_ns = now();
    for (int i = 0; i < n; i++) {
      Conn *c = events[i].data.ptr;
      int got = recv(c->fd, c->in + c->kept, IN_MAX - c->kept, 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) { errors += c->busy, running -= c->busy, close(c->fd), dial(c); continue; }
      received(c, got);
    }
  }
  double took = (now() - began) / 1e9;
  printf("{\"seconds\":%.3f,\"requests\":%ld,\"tokens\":%ld,\"errors\":%ld", took, requests, tokens, errors);
  print_percentiles("request", &request_time);
  print_percentiles("first_byte", &first_byte);
  print_percentiles("first_token", &first_token);
  print_percentiles("age", &age);
  puts("}");
  return 0;
}
