/* Propagation through the chain of modules of B architectures (Eq. 3 to 5 and 12 to 15), and its
 * gradient. Compiled once for each type of number, REAL.
 *
 * Letters: V nodes of a block, D numbers of an embedding, S hidden units of the message MLP,
 * K updates of a module. A node has a new version after each update; a module has V + K of them.
 *
 * Between the hidden layer of M and the gates of U everything is linear, so their matrices are
 * multiplied beforehand. Every matrix has one more row, what is added: a vector ends with a 1, or
 * with how often the row counts.
 *
 * Each sum has one order, which depends neither on the other architectures nor on the instructions
 * that the processor has: compile without contraction of a product and a sum.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Where the system can choose a function when the library is loaded, there is one for each set of
 * vector instructions. */
#if !defined(VECTORISED) && defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define VECTORISED __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif
#ifndef VECTORISED
#define VECTORISED
#endif

typedef int64_t Int;

/* As the caller lays them out, in this order. */
typedef struct {
    Int B, W; /* architectures, and the rows of each: the nodes of all its modules, padded */
    Int D, S;
    Int P;    /* propagation networks: 1, or one for each module */
    Int most; /* nodes of the largest block */
    Int T;    /* passes */
    Int synchronous, passing; /* whether each module hears the mean embedding of the one before */
} Sizes;

/* One matrix of each propagation network. */
typedef struct {
    REAL *state;  /* [P, D + 1, 3D + S]: an embedding to its part of the gates, and hidden units */
    REAL *gates;  /* [P, S + 1, 3D]: the sum of hidden units, and of how many, to the gates */
    REAL *inputs; /* [P, D + 1, 3D]: a message from outside to the gates */
} Weights;

/* One module of one architecture, and what its updates leave behind. */
typedef struct {
    Int V, K;
    const Int *ends, *list; /* what node v reads is list[ends[v]] to list[ends[v + 1]]; what reads
                             * it the same of V + v */
    const REAL *state, *gates, *inputs;
    REAL *h;      /* [V + K, D + 1]: the versions, each with a 1 at its end */
    REAL *made;   /* [V + K, 3D + S]: what `state` makes of each, after the ReLU */
    REAL *gate;   /* [K, 3D]: reset, update and new */
    REAL *summed; /* [K, S + 1]: hidden units of the nodes that are read, and how many these are */
    REAL *passed; /* [D + 1]: the embedding of the module before (Eq. 14), and 1 */
    REAL *outer;  /* [3D]: what `inputs` makes of it */
    Int *latest;  /* [V]: the version of each node */
    Int *before;  /* [K]: the version that an update replaced */
} Module;

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "the exponential below needs arithmetic in the precision of its type"
#endif

/* exp(x) - 1 to the last digits, without a branch: 2^n exp(r) - 1 with |r| <= log(2) / 2. A NaN
 * stays one. Beyond the bounds neither a sigmoid nor a hyperbolic tangent changes any more. */
static inline REAL expm1_of(REAL x) {
    const int single = sizeof(REAL) == 4, place = single ? 23 : 52; /* of the exponent */
    const REAL bound = single ? 87 : 700;
    /* adding it rounds to a whole number, which is then in the last bits */
    const REAL rounder = single ? 12582912.0 : 6755399441055744.0;
    x = x < -bound ? -bound : x;
    x = x > bound ? bound : x;
    const REAL t = x * (REAL)1.4426950408889634 + rounder;
    const REAL n = t - rounder;
    /* log(2) in two parts, of which n times the first is exact */
    const REAL r = single ? (x - n * (REAL)0.693359375) + n * (REAL)2.12194440e-4
                          : (x - n * (REAL)6.93147180369123816490e-01)
                                - n * (REAL)1.90821492927058770002e-10;
    REAL p = 0;
    if (!single) {
        p = (REAL)(1 / 6227020800.0);
        p = p * r + (REAL)(1 / 479001600.0);
        p = p * r + (REAL)(1 / 39916800.0);
        p = p * r + (REAL)(1 / 3628800.0);
        p = p * r + (REAL)(1 / 362880.0);
        p = p * r + (REAL)(1 / 40320.0);
    }
    p = p * r + (REAL)(1 / 5040.0);
    p = p * r + (REAL)(1 / 720.0);
    p = p * r + (REAL)(1 / 120.0);
    p = p * r + (REAL)(1 / 24.0);
    p = p * r + (REAL)(1 / 6.0);
    p = p * r + (REAL)(1 / 2.0);
    p = p * r * r + r;
    union { REAL real; BITS bits; } power = {t}; /* 2^n */
    power.bits = (power.bits << place) + ((BITS)(single ? 127 : 1023) << place);
    return power.real * p + (power.real - 1);
}

static inline REAL sigmoid(REAL x) { return 1 / (2 + expm1_of(-x)); }

static inline REAL tanh_of(REAL x) {
    const REAL e = expm1_of(2 * x);
    return e / (e + 2);
}

/* y += sum over i < rows of x[i * step] * matrix[i], which has `width` numbers in a row. */
VECTORISED
static void multiply(
    REAL *restrict y, const REAL *restrict x, Int step, const REAL *restrict matrix, Int rows,
    Int width
) {
    Int i = 0;
    for (; i + 8 <= rows; i += 8) { /* eight at once, or reading and writing y takes the time */
        const REAL *m = matrix + i * width, *c = x + i * step;
        const REAL c0 = c[0], c1 = c[step], c2 = c[2 * step], c3 = c[3 * step];
        const REAL c4 = c[4 * step], c5 = c[5 * step], c6 = c[6 * step], c7 = c[7 * step];
        for (Int o = 0; o < width; o++)
            y[o] += ((c0 * m[o] + c1 * m[o + width])
                     + (c2 * m[o + 2 * width] + c3 * m[o + 3 * width]))
                    + ((c4 * m[o + 4 * width] + c5 * m[o + 5 * width])
                       + (c6 * m[o + 6 * width] + c7 * m[o + 7 * width]));
    }
    for (; i < rows; i++)
        for (Int o = 0; o < width; o++) y[o] += x[i * step] * matrix[i * width + o];
}

/* U of Eq. 3, a gated recurrent unit: from the gates' inputs by messages (`gate`, which becomes
 * reset, update and new) and by the embedding itself (`own`) to the new embedding. */
VECTORISED
static void unit(
    REAL *restrict gate, const REAL *restrict own, const REAL *restrict h, REAL *restrict next,
    Int D
) {
    for (Int d = 0; d < 2 * D; d++) gate[d] = sigmoid(gate[d] + own[d]);
    for (Int d = 0; d < D; d++) {
        const REAL new = tanh_of(gate[2 * D + d] + gate[d] * own[2 * D + d]);
        gate[2 * D + d] = new;
        next[d] = new + gate[D + d] * (h[d] - new);
    }
}

/* The gradient of `unit`: `grad` of the new embedding becomes that of the old one, as far as it is
 * kept; `gate` becomes the gradient of the gates' inputs by messages. */
VECTORISED
static void unit_backward(
    REAL *restrict gate, const REAL *restrict own, const REAL *restrict h, REAL *restrict grad,
    REAL *restrict grad_own, Int D
) {
    for (Int d = 0; d < D; d++) {
        const REAL g = grad[d], reset = gate[d], update = gate[D + d], new = gate[2 * D + d];
        const REAL to_new = g * (1 - update) * (1 - new * new);
        gate[2 * D + d] = to_new;
        gate[D + d] = grad_own[D + d] = g * (h[d] - new) * update * (1 - update);
        gate[d] = grad_own[d] = to_new * own[2 * D + d] * reset * (1 - reset);
        grad_own[2 * D + d] = to_new * reset;
        grad[d] = g * update;
    }
}

static void add(REAL *restrict y, const REAL *restrict x, Int n) {
    for (Int i = 0; i < n; i++) y[i] += x[i];
}

/* A step updates the nodes from `first` to before `end`, which exchange no message before it ends.
 * They hear along forward edges, backward edges or both. */
typedef struct {
    Int first, end, forth, back;
} Step;

static Int steps_of(const Module *m, const Sizes *n) {
    return n->synchronous ? n->T : n->T * (2 * m->V - 1);
}

static Step step_of(const Module *m, const Sizes *n, Int t) {
    if (n->synchronous) return (Step){0, m->V, 1, 1};
    /* Eq. 15: one node after another, and back without the last; nodes are in topological order */
    const Int V = m->V, place = t % (2 * V - 1), v = place < V ? place : 2 * V - 2 - place;
    return (Step){v, v + 1, place < V, place >= V};
}

/* A node that reads none hears the module before, along forward edges (Eq. 14). */
static int hears_outside(const Module *m, Int v, Step step) {
    return step.forth && m->ends[v] == m->ends[v + 1];
}

/* What node v hears in a step, as two ranges in `list`. */
static void heard(const Module *m, Int v, Step step, Int range[4]) {
    const Int *back = m->ends + m->V + v;
    range[0] = m->ends[v];
    range[1] = step.forth ? m->ends[v + 1] : range[0];
    range[2] = back[0];
    range[3] = step.back ? back[1] : range[2];
}

/* Fill `made` for a version: its part of the gates, and the hidden layer of M (Eq. 4). */
static void make_state(Module *m, const Sizes *n, Int version) {
    const Int D = n->D, S = n->S;
    REAL *made = m->made + version * (3 * D + S), *hidden = made + 3 * D;
    memset(made, 0, (3 * D + S) * sizeof(REAL));
    m->h[version * (D + 1) + D] = 1;
    multiply(made, m->h + version * (D + 1), 1, m->state, D + 1, 3 * D + S);
    for (Int s = 0; s < S; s++) hidden[s] = hidden[s] < 0 ? 0 : hidden[s]; /* keeps a NaN */
}

/* Propagate from the initial embeddings `h` [V, D]; m->latest tells where the last ones are. */
static void forward(Module *m, const Sizes *n, const REAL *h) {
    const Int D = n->D, S = n->S, V = m->V;
    for (Int v = 0; v < V; v++) {
        memcpy(m->h + v * (D + 1), h + v * D, D * sizeof(REAL));
        make_state(m, n, v);
        m->latest[v] = v;
    }
    memset(m->outer, 0, 3 * D * sizeof(REAL));
    multiply(m->outer, m->passed, 1, m->inputs, D + 1, 3 * D);
    for (Int t = 0, k = 0; t < steps_of(m, n); t++) {
        const Step step = step_of(m, n, t);
        for (Int v = step.first; v < step.end; v++, k++) {
            REAL *gate = m->gate + k * 3 * D, *summed = m->summed + k * (S + 1);
            const Int version = m->before[k] = m->latest[v];
            Int range[4];
            heard(m, v, step, range);
            memset(summed, 0, S * sizeof(REAL));
            summed[S] = (range[1] - range[0]) + (range[3] - range[2]);
            for (Int r = 0; r < 4; r += 2) /* Eq. 4 */
                for (Int e = range[r]; e < range[r + 1]; e++)
                    add(summed, m->made + m->latest[m->list[e]] * (3 * D + S) + 3 * D, S);
            memcpy(gate, hears_outside(m, v, step) ? m->outer : m->inputs + D * 3 * D,
                   3 * D * sizeof(REAL));
            if (summed[S] > 0) multiply(gate, summed, 1, m->gates, S + 1, 3 * D);
            unit(gate, m->made + version * (3 * D + S), m->h + version * (D + 1),
                 m->h + (V + k) * (D + 1), D); /* Eq. 3 */
        }
        for (Int v = step.first; v < step.end; v++) {
            m->latest[v] = V + k - step.end + v;
            make_state(m, n, m->latest[v]);
        }
    }
}

/* Gradients of a module, and where its parameters' are added up. */
typedef struct {
    Weights transposed, sums; /* of one propagation network; `transposed` without the last rows */
    REAL *made;               /* [V + K, 3D + S] */
    REAL *outer, *bias;       /* [3D], of the gates of nodes that hear the module before, or not */
    REAL *summed;             /* [S] */
    REAL *passed;             /* [D] */
} Gradients;

/* Add to the gradient `grad` of node v what comes through the latest version's `made`. */
static void state_backward(const Module *m, const Sizes *n, Gradients *g, Int v, REAL *grad) {
    const Int D = n->D, S = n->S, row = m->latest[v] * (3 * D + S);
    const REAL *hidden = m->made + row + 3 * D;
    REAL *of_hidden = g->made + row + 3 * D;
    for (Int s = 0; s < S; s++) of_hidden[s] = hidden[s] > 0 ? of_hidden[s] : 0;
    multiply(grad + v * D, g->made + row, 1, g->transposed.state, 3 * D + S, D);
}

/* sums[i] += sum over rows of left[row][i] * right[row]: some rows at a time, which stay near. */
static void add_products(
    REAL *sums, const REAL *left, Int height, const REAL *right, Int width, Int rows
) {
    for (Int row = 0; row < rows; row += 32)
        for (Int i = 0; i < height; i++)
            multiply(sums + i * width, left + row * height + i, height, right + row * width,
                     rows - row < 32 ? rows - row : 32, width);
}

/* Undo `forward`: `grad` [V, D] of the last embeddings becomes that of the initial ones. */
static void backward(Module *m, const Sizes *n, Gradients *g, REAL *grad) {
    const Int D = n->D, S = n->S;
    memset(g->made, 0, (m->V + m->K) * (3 * D + S) * sizeof(REAL));
    memset(g->outer, 0, 3 * D * sizeof(REAL));
    memset(g->bias, 0, 3 * D * sizeof(REAL));
    for (Int t = steps_of(m, n) - 1, k = m->K; t >= 0; t--) {
        const Step step = step_of(m, n, t);
        k -= step.end - step.first;
        for (Int v = step.first; v < step.end; v++) {
            state_backward(m, n, g, v, grad);
            m->latest[v] = m->before[k + v - step.first];
        }
        for (Int v = step.first; v < step.end; v++) {
            const Int version = m->latest[v];
            REAL *gate = m->gate + (k + v - step.first) * 3 * D;
            unit_backward(gate, m->made + version * (3 * D + S), m->h + version * (D + 1),
                          grad + v * D, g->made + version * (3 * D + S), D);
            add(hears_outside(m, v, step) ? g->outer : g->bias, gate, 3 * D);
            memset(g->summed, 0, S * sizeof(REAL));
            multiply(g->summed, gate, 1, g->transposed.gates, 3 * D, S);
            Int range[4];
            heard(m, v, step, range);
            for (Int r = 0; r < 4; r += 2)
                for (Int e = range[r]; e < range[r + 1]; e++)
                    add(g->made + m->latest[m->list[e]] * (3 * D + S) + 3 * D, g->summed, S);
        }
    }
    for (Int v = 0; v < m->V; v++) state_backward(m, n, g, v, grad);
    memset(g->passed, 0, D * sizeof(REAL));
    multiply(g->passed, g->outer, 1, g->transposed.inputs, 3 * D, D);
    add_products(g->sums.state, m->h, D + 1, g->made, 3 * D + S, m->V + m->K);
    add_products(g->sums.gates, m->summed, S + 1, m->gate, 3 * D, m->K);
    add_products(g->sums.inputs, m->passed, D + 1, g->outer, 3 * D, 1);
    add(g->sums.inputs + D * 3 * D, g->bias, 3 * D);
}

/* Take `count` numbers from what is reserved; a first round only counts. Lines of the cache are
 * not shared. */
static void *take(char **reserved, size_t *used, Int count, size_t size) {
    void *taken = *reserved ? *reserved + *used : NULL;
    *used += (count * size + 63) / 64 * 64;
    return taken;
}

/* The graphs: how many modules M; where each begins in the rows, and where the last ends; for each
 * architecture and module where its block is described: V, 2V + 1 ends, the list. */
static const Int *block_of(const Int *graphs, Int b, Int m) {
    return graphs + graphs[2 + graphs[0] + b * graphs[0] + m];
}

static Int updates_of(const Sizes *n, Int V) { return n->T * (n->synchronous ? V : 2 * V - 1); }

static void reserve(char **reserved, size_t *used, const Sizes *n, Module *m, Gradients *g) {
    const Int D = n->D, S = n->S, V = n->most, K = updates_of(n, V);
    m->h = take(reserved, used, (V + K) * (D + 1), sizeof(REAL));
    m->made = take(reserved, used, (V + K) * (3 * D + S), sizeof(REAL));
    m->gate = take(reserved, used, K * 3 * D, sizeof(REAL));
    m->summed = take(reserved, used, K * (S + 1), sizeof(REAL));
    m->passed = take(reserved, used, D + 1, sizeof(REAL));
    m->outer = take(reserved, used, 3 * D, sizeof(REAL));
    m->latest = take(reserved, used, V, sizeof(Int));
    m->before = take(reserved, used, K, sizeof(Int));
    if (!g) return;
    g->transposed.state = take(reserved, used, n->P * (3 * D + S) * D, sizeof(REAL));
    g->transposed.gates = take(reserved, used, n->P * 3 * D * S, sizeof(REAL));
    g->transposed.inputs = take(reserved, used, n->P * 3 * D * D, sizeof(REAL));
    g->sums.state = take(reserved, used, (D + 1) * (3 * D + S), sizeof(REAL));
    g->sums.gates = take(reserved, used, (S + 1) * 3 * D, sizeof(REAL));
    g->sums.inputs = take(reserved, used, (D + 1) * 3 * D, sizeof(REAL));
    g->made = take(reserved, used, (V + K) * (3 * D + S), sizeof(REAL));
    g->outer = take(reserved, used, 3 * D, sizeof(REAL));
    g->bias = take(reserved, used, 3 * D, sizeof(REAL));
    g->summed = take(reserved, used, S, sizeof(REAL));
    g->passed = take(reserved, used, D, sizeof(REAL));
}

/* Reserve memory for the largest module; NULL where there is none. */
static char *prepare(const Sizes *n, Module *m, Gradients *g) {
    char *reserved = NULL;
    size_t used = 0;
    reserve(&reserved, &used, n, m, g);
    reserved = aligned_alloc(64, used);
    used = 0;
    if (reserved) reserve(&reserved, &used, n, m, g);
    return reserved;
}

/* Read the graph of a module, choose its parameters, and hear the module before. */
static void enter(
    Module *m, const Sizes *n, const Int *graphs, const Weights *weights, Int b, Int i,
    const REAL *embeddings
) {
    const Int D = n->D, S = n->S, p = i % n->P, *block = block_of(graphs, b, i);
    m->V = block[0];
    m->K = updates_of(n, m->V);
    m->ends = block + 1;
    m->list = block + 2 * m->V + 2;
    m->state = weights->state + p * (D + 1) * (3 * D + S);
    m->gates = weights->gates + p * (S + 1) * 3 * D;
    m->inputs = weights->inputs + p * (D + 1) * 3 * D;
    memset(m->passed, 0, D * sizeof(REAL)); /* Eq. 12 */
    m->passed[D] = 1;
    if (n->passing && i > 0) { /* Eq. 13 */
        const Int V = block_of(graphs, b, i - 1)[0];
        for (Int v = 0; v < V; v++) add(m->passed, embeddings + (graphs[i] + v) * D, D);
        for (Int d = 0; d < D; d++) m->passed[d] /= V;
    }
}

static void transpose(REAL *to, const REAL *from, Int rows, Int width) {
    for (Int i = 0; i < rows; i++)
        for (Int o = 0; o < width; o++) to[o * rows + i] = from[i * width + o];
}

/* Replace the initial embeddings `h` [B, W, D] by the propagated ones; rows that pad stay.
 * Returns 0, or 1 where there is not enough memory. */
int propagate(const Sizes *n, const Int *graphs, const Weights *weights, REAL *h) {
    Module m;
    char *reserved = prepare(n, &m, NULL);
    if (!reserved) return 1;
    for (Int b = 0; b < n->B; b++)
        for (Int i = 0; i < graphs[0]; i++) {
            REAL *embeddings = h + b * n->W * n->D, *own = embeddings + graphs[1 + i] * n->D;
            enter(&m, n, graphs, weights, b, i, embeddings);
            forward(&m, n, own);
            for (Int v = 0; v < m.V; v++)
                memcpy(own + v * n->D, m.h + m.latest[v] * (n->D + 1), n->D * sizeof(REAL));
        }
    free(reserved);
    return 0;
}

/* Replace the gradient `grad` [B, W, D] of the propagated embeddings `last` by that of the initial
 * ones `h`, and add the parameters' gradients to `sums`. Each module is propagated once more, for
 * what it computed in between would fill hundreds of times the memory of its embeddings.
 * Returns 0, or 1 where there is not enough memory. */
int propagate_backward(
    const Sizes *n, const Int *graphs, const Weights *weights, const REAL *h, const REAL *last,
    REAL *grad, Weights *sums
) {
    const Int D = n->D, S = n->S, state = (D + 1) * (3 * D + S), gates = (S + 1) * 3 * D;
    const Int inputs = (D + 1) * 3 * D;
    Module m;
    Gradients g;
    char *reserved = prepare(n, &m, &g);
    if (!reserved) return 1;
    const Weights transposed = g.transposed;
    for (Int p = 0; p < n->P; p++) {
        transpose(transposed.state + p * (3 * D + S) * D, weights->state + p * state, D, 3 * D + S);
        transpose(transposed.gates + p * 3 * D * S, weights->gates + p * gates, S, 3 * D);
        transpose(transposed.inputs + p * 3 * D * D, weights->inputs + p * inputs, D, 3 * D);
    }
    for (Int b = 0; b < n->B; b++)
        for (Int i = graphs[0] - 1; i >= 0; i--) {
            const Int row = b * n->W + graphs[1 + i], p = i % n->P;
            g.transposed.state = transposed.state + p * (3 * D + S) * D;
            g.transposed.gates = transposed.gates + p * 3 * D * S;
            g.transposed.inputs = transposed.inputs + p * 3 * D * D;
            memset(g.sums.state, 0, state * sizeof(REAL));
            memset(g.sums.gates, 0, gates * sizeof(REAL));
            memset(g.sums.inputs, 0, inputs * sizeof(REAL));
            enter(&m, n, graphs, weights, b, i, last + b * n->W * D);
            forward(&m, n, h + row * D);
            backward(&m, n, &g, grad + row * D);
            add(sums->state + p * state, g.sums.state, state);
            add(sums->gates + p * gates, g.sums.gates, gates);
            add(sums->inputs + p * inputs, g.sums.inputs, inputs);
            if (n->passing && i > 0) { /* of Eq. 13 */
                const Int V = block_of(graphs, b, i - 1)[0];
                for (Int d = 0; d < D; d++) g.passed[d] /= V;
                for (Int v = 0; v < V; v++)
                    add(grad + (b * n->W + graphs[i] + v) * D, g.passed, D);
            }
        }
    free(reserved);
    return 0;
}
