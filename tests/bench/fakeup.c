// A worker in C for load tests: one epoll thread, keep-alive HTTP/1.1, SGLang 0.5.23's shapes and nothing behind them.
//
//   cc -O2 -o fakeup fakeup.c && ./fakeup PORT TOKENS INTERVAL_US      (GET /_interval/US sets another interval)
//
// A POST to /v1/chat/completions or /generate with "stream":true gets TOKENS content events, one write() each, INTERVAL_US
// apart (0: one per connection per turn of the loop), else a whole answer at once. Each token's text is "t=" + 16 hex digits
// of CLOCK_MONOTONIC in nanoseconds + " ", so that whoever reads it, through whatever translates it, can tell its age. The
// probes that a gateway makes at its start are answered. Tokens are bytes; counts are consistent, max_tokens is ignored.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BODY_MAX = 1 << 20, RID_MAX = 96, OUT_MAX = 1 << 16 };

typedef struct Conn {
  struct Conn *prev, *next;  // in the ring of running streams, by the time of the next token
  int fd, length, sent, prompt;
  bool streaming, generate, aborted;
  long due;
  char rid[RID_MAX];
  char in[BODY_MAX];
} Conn;

static Conn ring = {.prev = &ring, .next = &ring};
static int tokens;
static long gap_ns, running;

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

// Puts a stream before the first that is due later. It looks from the end, where the next token of a running stream belongs,
// or from the front for a stream whose first token is due at once.
static void enqueue(Conn *c, bool is_new) {
  Conn *after = ring.prev;
  if (is_new && gap_ns) for (after = &ring; after->next != &ring && after->next->due <= c->due;) after = after->next;
  c->prev = after;
  c->next = after->next;
  after->next->prev = c;
  after->next = c;
}

static void dequeue(Conn *c) {
  c->prev->next = c->next;
  c->next->prev = c->prev;
}

static void drop(Conn *c) {
  if (c->streaming) dequeue(c), running--;
  close(c->fd);
  free(c);
}

// Sends all or nothing: a peer that doesn't read is cut, a load client always reads.
static int put(Conn *c, const char *data, int length) {
  return send(c->fd, data, length, MSG_NOSIGNAL) == length ? 0 : -1;
}

static int answer(Conn *c, const char *type, const char *body, int length) {
  static char out[OUT_MAX * 2];
  int n = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n", type, length);
  if (length > (int)sizeof out - n) return -1;
  memcpy(out + n, body, length);
  return put(c, out, n + length);
}

static int answer_json(Conn *c, const char *body) { return answer(c, "application/json", body, strlen(body)); }

// One event as one chunk of the transfer encoding.
static int event(Conn *c, const char *json, int length) {
  char out[2048];
  int n = snprintf(out, sizeof out, "%x\r\ndata: %.*s\n\n\r\n", length + 8, length, json);
  return n < (int)sizeof out ? put(c, out, n) : -1;
}

#define USAGE                                                                                                        \
  "\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":"          \
  "{\"cached_tokens\":0},\"reasoning_tokens\":0,\"completion_tokens_details\":null}"
#define CHUNK "{\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"muse\",\"choices\":["
#define META                                                                                                         \
  "\"meta_info\":{\"id\":\"%s\",\"finish_reason\":%s,\"prompt_tokens\":%d,\"weight_version\":\"default\","           \
  "\"reasoning_tokens\":0,\"completion_tokens\":%d,\"cached_tokens\":0,\"cached_tokens_details\":null}"

static int chat_event(Conn *c, const char *delta, const char *finish, bool counts) {
  char b[1024];
  int n = snprintf(b, sizeof b, CHUNK "{\"index\":0,\"delta\":{\"reasoning_content\":null%s},\"logprobs\":null,"
                   "\"finish_reason\":%s,\"matched_stop\":null}]", c->rid, delta, finish);
  if (counts) n += snprintf(b + n, sizeof b - n, "," USAGE, c->prompt, c->prompt + c->sent, c->sent);
  b[n++] = '}';
  return event(c, b, n);
}

static int last_events(Conn *c) {
  char b[1024];
  if (!c->generate) {
    if (chat_event(c, "", c->aborted ? "\"abort\"" : "\"length\"", false)) return -1;
    int n = snprintf(b, sizeof b, CHUNK "]," USAGE "}", c->rid, c->prompt, c->prompt + c->sent, c->sent);
    if (event(c, b, n)) return -1;
  }
  static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
  dequeue(c);
  c->streaming = false;
  running--;
  return put(c, end, sizeof end - 1);
}

// The next token of a stream, and after the last one the end. 1: the stream ended, -1: the peer is gone.
static int emit(Conn *c) {
  char text[64];
  bool is_last = ++c->sent >= tokens || c->aborted;
  snprintf(text, sizeof text, "t=%016lx ", now());
  if (c->generate) {
    char b[1024], reason[96] = "null";
    if (c->aborted) strcpy(reason, "{\"type\":\"abort\",\"message\":\"Aborted\",\"status_code\":null,\"err_type\":null}");
    else if (is_last) snprintf(reason, sizeof reason, "{\"type\":\"length\",\"length\":%d}", c->sent);
    int n = snprintf(b, sizeof b, "{\"text\":\"%s\",\"output_ids\":[116]," META "}", text, c->rid, reason, c->prompt, c->sent);
    if (event(c, b, n)) return -1;
  } else {
    char delta[128];
    snprintf(delta, sizeof delta, ",\"content\":\"%s\"", text);
    if (chat_event(c, delta, "null", true)) return -1;
  }
  if (!is_last) return 0;
  return last_events(c) ? -1 : 1;
}

static int start_stream(Conn *c) {
  static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                             "transfer-encoding: chunked\r\n\r\n";
  if (put(c, head, sizeof head - 1)) return -1;
  c->sent = 0;
  c->aborted = false;
  if (!c->generate && chat_event(c, ",\"role\":\"assistant\",\"content\":\"\"", "null", false)) return -1;
  c->streaming = true;
  c->due = now();
  enqueue(c, true);
  running++;
  return 0;
}

static int whole(Conn *c) {
  char b[2048];
  static const char text[] = "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. "
                             "The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog.";
  if (c->generate)
    snprintf(b, sizeof b, "{\"text\":\"%s\",\"output_ids\":[116]," META "}", text, c->rid,
             "{\"type\":\"length\",\"length\":64}", c->prompt, 64);
  else
    snprintf(b, sizeof b, "{\"id\":\"%s\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"muse\","
             "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"reasoning_content\":null},"
             "\"logprobs\":null,\"finish_reason\":\"length\",\"matched_stop\":null}]," USAGE ",\"metadata\":"
             "{\"weight_version\":\"default\"}}", c->rid, text, c->prompt, c->prompt + 64, 64);
  return answer_json(c, b);
}

// -- what a request says

static const char *find(const char *body, int length, const char *needle) { return memmem(body, length, needle, strlen(needle)); }

// The value of a JSON key: just behind the colon and a space, or null. Good for bodies that a machine wrote.
static const char *value(const char *body, int length, const char *key) {
  const char *at = find(body, length, key);
  if (!at) return 0;
  at += strlen(key);
  while (at < body + length && (*at == ':' || *at == ' ')) at++;
  return at < body + length ? at : 0;
}

static bool is_true(const char *body, int length, const char *key) {
  const char *at = value(body, length, key);
  return at && !strncmp(at, "true", 4);
}

// Copies the request's rid, at most RID_MAX - 1 bytes of it; returns its length, 0 where there is none.
static int read_rid(char *rid, const char *body, int length) {
  const char *at = value(body, length, "\"rid\"");
  int n = 0;
  if (at && *at == '"')
    for (at++; n < RID_MAX - 1 && at < body + length && *at != '"'; at++) rid[n++] = *at;
  rid[n] = 0;
  return n;
}

// The length of a JSON string's text in bytes, its end in *end; `\uXXXX` counts as one.
static int text_length(const char *at, const char *limit, const char **end) {
  int n = 0;
  for (at++; at < limit && *at != '"'; at++, n++)
    if (*at == '\\') at += at[1] == 'u' ? 5 : 1;
  *end = at + 1;
  return n;
}

// Bytes of all texts behind `key`, and three a text for its role: this worker's tokens.
static int count_texts(const char *body, int length, const char *key) {
  int n = 0;
  const char *limit = body + length, *at = body;
  while ((at = value(at, limit - at, key)))
    if (*at == '"') n += 3 + text_length(at, limit, &at);
  return n;
}

static int count_ids(const char *body, int length) {
  const char *at = value(body, length, "\"input_ids\"");
  if (!at || *at != '[') return 0;
  int n = 1;
  for (; at < body + length && *at != ']'; at++) n += *at == ',';
  return n;
}

static int count_prompt(const char *body, int length) {
  int ids = count_ids(body, length);
  return ids ? ids : count_texts(body, length, "\"content\"") + count_texts(body, length, "\"text\"");
}

// Ids are byte values; those of a conversation stand between 256 and 258, which stand for no byte.
static int tokenize(Conn *c, const char *body, int length) {
  static char out[OUT_MAX];
  const char *limit = body + length, *at = body, *prompt = value(body, length, "\"prompt\"");
  int n = snprintf(out, sizeof out, "{\"tokens\":["), count = 0;
  const char *key = prompt ? "\"prompt\"" : "\"content\"";
  while ((at = value(at, limit - at, key))) {
    if (*at != '"') continue;
    if (!prompt) n += snprintf(out + n, sizeof out - n, "%s256,257", count ? "," : ""), count += 2;
    for (at++; at < limit && *at != '"' && n < OUT_MAX - 64; at++, count++) {
      if (*at == '\\') at++;
      int byte = (unsigned char)*at;
      if (at[-1] == '\\') byte = byte == 'n' ? '\n' : byte == 't' ? '\t' : byte == 'r' ? '\r' : byte;
      n += snprintf(out + n, sizeof out - n, "%s%d", count ? "," : "", byte);
    }
    if (!prompt) n += snprintf(out + n, sizeof out - n, ",258"), count++;
  }
  snprintf(out + n, sizeof out - n, "],\"count\":%d,\"max_model_len\":131072}", count);
  return answer_json(c, out);
}

static int detokenize(Conn *c, const char *body, int length) {
  static char out[OUT_MAX];
  const char *limit = body + length, *at = value(body, length, "\"tokens\"");
  int n = snprintf(out, sizeof out, "{\"text\":\"");
  while (at && at < limit && *at != ']' && n < OUT_MAX - 64) {
    if (*at < '0' || *at > '9') { at++; continue; }
    int id = strtol(at, (char **)&at, 10);
    if (id > 255) continue;
    n += snprintf(out + n, sizeof out - n, id < 32 ? "\\u%04x" : id == '"' || id == '\\' ? "\\%c" : "%c", id);
  }
  snprintf(out + n, sizeof out - n, "\"}");
  return answer_json(c, out);
}

static int abort_request(Conn *c, const char *body, int length) {
  char rid[RID_MAX];
  int named = read_rid(rid, body, length);
  for (Conn *s = ring.next; named && s != &ring; s = s->next)
    if (!strncmp(s->rid, rid, named)) s->aborted = true;
  return answer(c, "application/json", "", 0);
}

static int probe(Conn *c, const char *path) {
  char b[1024];
  if (!strncmp(path, "/v1/models", 10))
    return answer_json(c, "{\"object\":\"list\",\"data\":[{\"id\":\"muse\",\"object\":\"model\",\"created\":1790000000,"
                          "\"owned_by\":\"sglang\",\"root\":\"muse\",\"parent\":null,\"max_model_len\":131072}]}");
  if (!strncmp(path, "/model_info", 11))
    return answer_json(c, "{\"model_path\":\"fakeup\",\"served_model_name\":\"muse\",\"tokenizer_path\":\"fakeup\","
                          "\"is_generation\":true,\"reasoning_parser\":null,\"tool_call_parser\":null,\"model_type\":\"fake\","
                          "\"architectures\":[\"FakeForCausalLM\"]}");
  if (!strncmp(path, "/server_info", 12))
    return answer_json(c, "{\"model_path\":\"fakeup\",\"served_model_name\":\"muse\",\"context_length\":131072,"
                          "\"max_running_requests\":8192,\"max_queued_requests\":8192,\"max_total_num_tokens\":100000000,"
                          "\"page_size\":1,\"schedule_policy\":\"fcfs\",\"enable_priority_scheduling\":true,"
                          "\"enable_cache_report\":true,\"enable_metrics\":true,\"incremental_streaming_output\":true,"
                          "\"stream_interval\":1,\"reasoning_parser\":null,\"tool_call_parser\":null,"
                          "\"enable_strict_thinking\":false,\"version\":\"0.5.23\"}");
  if (!strncmp(path, "/v1/loads", 9)) {
    snprintf(b, sizeof b, "{\"version\":\"0.5.23\",\"loads\":[{\"dp_rank\":0,\"num_running_reqs\":%ld,\"num_waiting_reqs\":0,"
             "\"num_used_tokens\":0,\"max_total_num_tokens\":100000000,\"max_running_requests\":8192}]}", running);
    return answer_json(c, b);
  }
  if (!strncmp(path, "/_interval/", 11)) gap_ns = atol(path + 11) * 1000L;
  if (!strncmp(path, "/metrics", 8)) {
    int n = snprintf(b, sizeof b, "sglang:num_running_reqs{model_name=\"muse\",priority=\"\"} %ld\n", running);
    return answer(c, "text/plain; version=0.0.4", b, n);
  }
  return answer(c, "text/plain", "", 0);  // /health and the like
}

static int route(Conn *c, const char *body, int length) {
  const char *path = strchr(c->in, ' ') + 1;
  if (!strncmp(c->in, "GET ", 4)) return probe(c, path);
  if (!strncmp(path, "/v1/tokenize", 12) || !strncmp(path, "/tokenize", 9)) return tokenize(c, body, length);
  if (!strncmp(path, "/v1/detokenize", 14) || !strncmp(path, "/detokenize", 11)) return detokenize(c, body, length);
  if (!strncmp(path, "/abort_request", 14)) return abort_request(c, body, length);
  c->generate = !strncmp(path, "/generate", 9);
  c->prompt = count_prompt(body, length);
  if (!read_rid(c->rid, body, length)) snprintf(c->rid, RID_MAX, "%032lx", now());
  return is_true(body, length, "\"stream\"") ? start_stream(c) : whole(c);
}

// Serves every request that is whole in the buffer. -1: the peer is gone.
static int serve(Conn *c) {
  for (;;) {
    c->in[c->length] = 0;
    char *body = memmem(c->in, c->length, "\r\n\r\n", 4);
    if (!body) return c->length < BODY_MAX - 1 ? 0 : -1;
    body += 4;
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    int size = field && field < body ? atoi(field + 17) : 0, total = body - c->in + size;
    if (!field && strcasestr(c->in, "\r\ntransfer-encoding:")) {  // the body is read as it stands, framing and all
      char *end = memmem(body, c->length - (body - c->in), "0\r\n\r\n", 5);
      if (!end) return 0;
      total = end + 5 - c->in;
      size = total - (body - c->in);
    }
    if (c->length < total) return total < BODY_MAX - 1 ? 0 : -1;
    if (route(c, body, size)) return -1;
    memmove(c->in, c->in + total, c->length - total);
    c->length -= total;
  }
}

static void emit_due(void) {
  long t = now();
  Conn *last = ring.prev;
  for (Conn *c = ring.next, *next; c != &ring; c = next) {
    next = c->next;
    bool is_end = c == last;
    if (gap_ns && c->due > t) break;
    int ended = emit(c);
    if (ended < 0) drop(c);
    else if (!ended && gap_ns) dequeue(c), c->due += gap_ns, enqueue(c, false);
    if (is_end) break;
  }
}

static int listen_on(int port) {
  int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(s, (void *)&a, sizeof a) || listen(s, 4096)) perror("fakeup"), exit(1);
  return s;
}

static void accept_all(int ep, int s) {
  int fd, one = 1;
  while ((fd = accept4(s, 0, 0, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: fakeup PORT TOKENS INTERVAL_US\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  tokens = atoi(argv[2]);
  gap_ns = atol(argv[3]) * 1000L;
  int s = listen_on(atoi(argv[1])), ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = 0}, events[512];
  epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
  for (;;) {
    struct timespec wait = {0}, *until = 0;
    if (ring.next != &ring) {
      long left = gap_ns ? ring.next->due - now() : 0;
      if (left > 0) wait.tv_sec = left / 1000000000L, wait.tv_nsec = left % 1000000000L;
      until = &wait;
    }
    int n = epoll_pwait2(ep, events, 512, until, 0);
    for (int i = 0; i < n; i++) {
      Conn *c = events[i].data.ptr;
      if (!c) { accept_all(ep, s); continue; }
      int got = recv(c->fd, c->in + c->length, BODY_MAX - 1 - c->length, 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) { drop(c); continue; }
      c->length += got;
      if (serve(c)) drop(c);
    }
    emit_due();
  }
}
