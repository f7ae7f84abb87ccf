/* Leases, fences, cancels and hand-offs as they are built. Explained, statement by statement, in README.md.
 *
 * Two runs of one thread, two workers of one run each, a sweeper, two clients. Each `atomic` is one SQL statement or
 * transaction, or one script in Redis, and names it. Everything between two of them may take for ever: that is how a worker
 * is paused and wakes as a zombie. A lease may run out whenever it is not being renewed; no clock is trusted.
 *
 * Each MUTATION takes one safeguard away (`spin -DMUTATION ...`); check.py knows what has to be found then.
 */

#ifndef MAX_ATTEMPTS
#define MAX_ATTEMPTS 2          /* lgs.run: max_attempts, 3 in production */
#endif
#ifndef STEPS
#define STEPS 3                 /* checkpoints of a run; the first one only takes the input in */
#endif
#ifndef CRASHES
#define CRASHES 1               /* kill -9, out of memory */
#endif
#ifndef DROPS
#define DROPS 1                 /* a statement is carried out, or not, and its answer is lost: Postgres restarts, cut lines */
#endif
#ifndef HANDOFFS
#define HANDOFFS 1
#endif
#ifndef FLUSHES
#define FLUSHES 1               /* FLUSHALL */
#endif

#define ABSENT      0
#define PENDING     1
#define RUNNING     2
#define SUCCESS     3
#define ERROR       4
#define INTERRUPTED 5
#define GONE        6           /* rolled back or deleted: the row is not there any more */

#define INTERRUPT 1
#define ROLLBACK  2
#define DELETE    3

/* the rows */
byte status[2], attempt[2], handoffs[2], token[2], cancel[2], saved[2];
bool resuming[2];
byte progress[2];               /* bit t: the lease with token t has completed a superstep (lgs.has_got_on) */
byte epoch[2];                  /* Redis: the fence of the run's stream */

/* lease_expires_at. Where only safety is looked at, every lease may run out at once, renewed or not. */
#ifdef LIVENESS
bool fresh[2], tick;
#define expired(r) (!fresh[r])
#define renew(r) fresh[r] = 1
#define must_renew(r) (!fresh[r])
#else
#define expired(r) true
#define renew(r) skip
#define must_renew(r) false
#endif

/* what workers know; written by their heartbeat threads too */
byte held[2], held_run[2], heard[2];
bool lost[2];

/* only watched, never looked at by the protocol */
byte claims[2];                 /* tokens given so far: the newest is the only owner */
byte expired_leases[2];
byte dry[2];                    /* leases lost in a row without a superstep */
byte acked[2];                  /* the cancel that a client was told is recorded */
byte newest_event[2];           /* token of the newest owner that has appended */
bool closed[2];                 /* the end marker is in the stream */
bool pending_work;              /* NO_POLLING: a bell that somebody hears */

byte crashes = CRASHES, drops = DROPS, flushes = FLUSHES, planned = HANDOFFS;

#define live(r)  (status[r] == PENDING || status[r] == RUNNING)
#define over(r)  (status[r] >= SUCCESS)
#define all_over (over(0) && (status[1] == ABSENT || over(1)))
#define holds(r, t) (status[r] == RUNNING && token[r] == t)

#ifdef NO_FENCE                 /* settle, hand_off: without lease_token in WHERE */
#define row_fence(r, t) (status[r] == RUNNING)
#else
#define row_fence(r, t) holds(r, t)
#endif
#ifdef NO_CHECKPOINT_FENCE      /* put_checkpoint: without the fence CTE */
#define saver_fence(r, t) true
#else
#define saver_fence(r, t) holds(r, t)
#endif
#ifdef NO_STREAM_FENCE          /* _APPEND: without comparing */
#define stream_fence(r, e) true
#else
#define stream_fence(r, e) (e >= epoch[r])
#endif

#define shown_epoch(r) (attempt[r] + handoffs[r])

/* has_got_on: in one of the last MAX_ATTEMPTS - 1 leases, not the first */
#define bit(t) (1 << (t))
#define got_on(r) ((claims[r] > 1 && (progress[r] & bit(claims[r]))) || \
                   (MAX_ATTEMPTS > 2 && claims[r] > 2 && (progress[r] & bit(claims[r] - 1))))

#ifdef UNBOUNDED_ATTEMPTS
#define may_try_again(r) true
#elif defined(CANCELS_TRIED_FOR_EVER)
#define may_try_again(r) (attempt[r] < MAX_ATTEMPTS || got_on(r) || cancel[r])
#else
#define may_try_again(r) (attempt[r] < MAX_ATTEMPTS || got_on(r) || (cancel[r] && attempt[r] <= MAX_ATTEMPTS))
#endif

/* candidate of `claim`: pending, nothing of the thread runs, nothing older waits */
#ifdef NO_ORDER
#define claimable(r) (status[r] == PENDING)
#else
#define claimable(r) (status[r] == PENDING && status[1 - r] != RUNNING && !(r == 1 && status[0] == PENDING))
#endif
#ifdef NO_UNIQUE_INDEX
#define index_allows(r) true
#else
#define index_allows(r) (status[1 - r] != RUNNING)
#endif

/* a lost cancel: success although it was acknowledged; anything but a rollback where that was acknowledged */
inline end_run(r, how) {
    assert(!(acked[r] == INTERRUPT && how == SUCCESS));
    assert(acked[r] != ROLLBACK || how == GONE);
    status[r] = how; token[r] = 0; resuming[r] = 0
}

inline ring() {
#ifdef NO_POLLING
    if :: pending_work = 1 :: skip fi       /* the bell may be lost */
#else
    skip
#endif
}

/* streaming/log.py, _APPEND */
inline append(r, t, e, last, refused) {
    if
    :: !stream_fence(r, e) -> refused = 1
    :: else ->
        assert(t >= newest_event[r]);       /* nobody's event after that of a newer owner */
        assert(!closed[r]);                 /* nothing after the end */
#ifdef STRONG_STREAM
        assert(t == claims[r]);             /* not promised: see README.md */
#endif
        epoch[r] = e; newest_event[r] = t; closed[r] = last; refused = 0
    fi
}

/* settle, settle_rollback: one transaction under the thread's lock. A cancel that is recorded and not honoured by the outcome
   refuses it, and the outcome is made from the cancel. */
#ifdef SETTLE_OVER_CANCEL
#define unheard(r, how) false
#else
#define unheard(r, how) ((cancel[r] == INTERRUPT && how == SUCCESS) || (cancel[r] == ROLLBACK && how != GONE))
#endif

proctype worker(byte w) {
    byte r, t, e, n, how;
    bool refused;

idle:
    atomic { r = 0; t = 0; e = 0; n = 0; how = 0; refused = 0; lost[w] = 0; heard[w] = 0;
#ifndef RENEW_AFTER_LOSS
        held[w] = 0; held_run[w] = 0
#endif
    }
end_idle:
    /* claim, the snapshot: a candidate */
    if
#ifdef NO_POLLING
    :: atomic { pending_work -> pending_work = 0;
        if :: claimable(0) -> r = 0 :: !claimable(0) && claimable(1) -> r = 1 :: else -> goto end_idle fi }
#else
    :: atomic { claimable(0) -> r = 0 }
    :: atomic { claimable(1) -> r = 1 }
#endif
    fi;
    /* claim, the update: the row is locked and looked at again; the index on running runs stands behind it */
    atomic {
        if
        :: status[r] == PENDING && index_allows(r) ->
            status[r] = RUNNING; resuming[r] = 0; attempt[r]++; claims[r]++;
            t = claims[r]; token[r] = t; e = shown_epoch(r); renew(r);
            assert(status[1 - r] != RUNNING);                           /* one running run per thread */
            assert(!(r == 1 && live(0)));                               /* in order */
            assert(attempt[r] == expired_leases[r] + 1);                /* a hand-off is not an attempt, a lost lease is */
            if
            :: held[w] = t; held_run[w] = r;
#ifndef NO_CANCEL_COLUMN
               heard[w] = cancel[r]                                     /* RETURNING r.* */
#endif
            :: drops > 0 -> drops--; goto idle                          /* nobody knows this token */
            fi
        :: else -> goto idle
        fi
    };
    n = saved[r];                                                       /* last_checkpoint_of_run */

work:
    if
    :: atomic { lost[w] -> goto idle }
    :: atomic { !lost[w] && heard[w] == INTERRUPT -> how = INTERRUPTED; goto settle }
    :: atomic { !lost[w] && heard[w] == ROLLBACK -> how = GONE; goto settle }
    :: atomic { !lost[w] && !heard[w] && n == STEPS -> how = SUCCESS; goto settle }
    :: atomic { !lost[w] && !heard[w] && n < STEPS -> how = ERROR; goto settle }     /* a node raises */
    :: atomic { !lost[w] && planned > 0 -> planned--; goto hand_off }                 /* drained, or released */
    :: atomic { crashes > 0 -> crashes--; held[w] = 0; goto idle }
    :: !lost[w] && !heard[w] && n < STEPS -> skip
    fi;
    /* a superstep: its events, then its checkpoint */
    atomic { append(r, t, e, 0, refused); if :: refused -> goto idle :: else fi };
#ifdef CHECK_THEN_WRITE                                                 /* put_checkpoint in two statements */
    if :: holds(r, t) :: !holds(r, t) -> goto idle fi;
#endif
    atomic {                                                            /* put_checkpoint: the row FOR SHARE, then the insert */
        if
#ifdef CHECK_THEN_WRITE
        :: true ->
#else
        :: saver_fence(r, t) ->
#endif
            assert(holds(r, t) && t == claims[r]);                      /* never two accepted owners */
            assert(n == saved[r]);                                      /* no fork */
            n++; saved[r] = n;
            if :: n > 1 && t > 1 -> progress[r] = progress[r] | bit(t); dry[r] = 0 :: else fi;
            if :: skip :: drops > 0 -> drops--; goto idle fi            /* UnavailableError: left to its expiry */
#ifndef CHECK_THEN_WRITE
        :: else -> goto idle                                            /* LeaseLostError */
#endif
        fi
    };
    goto work;

settle:
    skip;                                                               /* others may come between */
    atomic {
        if
        :: row_fence(r, t) && unheard(r, how) ->
            if :: cancel[r] == ROLLBACK -> how = GONE :: else -> how = INTERRUPTED fi;
            goto settle
        :: row_fence(r, t) && !unheard(r, how) ->
            assert(holds(r, t) && t == claims[r]);
            end_run(r, how); ring();
            if :: skip :: drops > 0 -> drops--; goto idle fi            /* already_settled finds it, or it is given up */
        :: !row_fence(r, t) -> goto idle
        fi
    };
    atomic { append(r, t, e, 1, refused); goto idle };                  /* the end marker */

hand_off:
    skip;
    atomic {
        if
        :: row_fence(r, t) ->
            assert(holds(r, t) && t == claims[r]);
            status[r] = PENDING; resuming[r] = 1; token[r] = 0; ring();
#ifndef HANDOFF_IS_ATTEMPT
            attempt[r]--;
#endif
            handoffs[r]++;
            if :: skip :: drops > 0 -> drops--; goto hand_off fi
        :: else -> skip
        fi;
        goto idle
    }
}

/* queue/heartbeat.py: the thread of worker w */
proctype heartbeat(byte w) {
    byte r;
end_beat:
    do
    :: atomic { held[w] && (must_renew(held_run[w]) || !holds(held_run[w], held[w]) || cancel[held_run[w]] != heard[w]) ->
        r = held_run[w];
        if
        :: holds(r, held[w]) -> renew(r);
#ifndef NO_CANCEL_COLUMN
            heard[w] = cancel[r]
#else
            skip
#endif
        :: else -> held[w] = 0; lost[w] = 1
        fi; r = 0 }
    :: atomic { held[w] && drops > 0 -> drops--; lost[w] = 1;           /* no answer for half of the lease */
#ifndef RENEW_AFTER_LOSS
        held[w] = 0
#endif
        }
    od
}

/* services/queue.py, by workers and by the scheduler */
proctype sweeper() {
    byte r, t, e;
    bool refused;
end_sweep:
    do
    :: atomic { status[0] == RUNNING && expired(0) -> r = 0 }; goto take
    :: atomic { status[1] == RUNNING && expired(1) -> r = 1 }; goto take
    od;
take:
    atomic {
        if
        :: status[r] == RUNNING && expired(r) && may_try_again(r) ->     /* requeue_expired */
            status[r] = PENDING; resuming[r] = 1; token[r] = 0; expired_leases[r]++; dry[r]++;
            assert(dry[r] < MAX_ATTEMPTS + (cancel[r] != 0));           /* bounded unless the run gets on */
            ring(); r = 0;
            goto end_sweep
        :: status[r] == RUNNING && expired(r) && !may_try_again(r) ->    /* claim_exhausted */
            attempt[r]++; claims[r]++; expired_leases[r]++;
            t = claims[r]; token[r] = t; e = shown_epoch(r); renew(r)
        :: else -> r = 0; goto end_sweep
        fi
    };
bury:
    atomic {                                                            /* settle, or settle_rollback if that was asked for */
        if
        :: crashes > 0 -> crashes--; r = 0; t = 0; e = 0; goto end_sweep
        :: holds(r, t) ->
            assert(t == claims[r]);
#ifdef SETTLE_OVER_CANCEL
            end_run(r, ERROR)
#else
            if
            :: cancel[r] == ROLLBACK -> end_run(r, GONE)
            :: cancel[r] == INTERRUPT -> end_run(r, INTERRUPTED)
            :: else -> end_run(r, ERROR)
            fi
#endif
            ; ring()
        :: !holds(r, t) -> r = 0; t = 0; e = 0; goto end_sweep
        fi
    };
    atomic { append(r, t, e, 1, refused); r = 0; t = 0; e = 0; refused = 0 };
    goto end_sweep
}

/* One transaction under the thread's lock: runs_to_cancel, then request_cancel, or interrupt_pending or delete_pending. */
inline record(r, action) {
    if
    :: status[r] == RUNNING || (status[r] == PENDING && resuming[r]) ->
#ifdef NO_CANCEL_COLUMN                 /* a message to whoever holds the run, and nothing else */
        acked[r] = action;
        if :: held[0] && held_run[0] == r -> heard[0] = action :: else fi;
        if :: held[1] && held_run[1] == r -> heard[1] = action :: else fi
#else
        cancel[r] = (cancel[r] == ROLLBACK -> ROLLBACK : action); acked[r] = cancel[r]
#endif
    :: status[r] == PENDING && !resuming[r] ->
        acked[r] = action;
        if :: action == ROLLBACK -> end_run(r, GONE) :: else -> end_run(r, INTERRUPTED) fi;
        ring()
    :: else
    fi
}

/* Makes a run, then a second one that waits for it, interrupts it or rolls it back (`create`). */
proctype creator() {
    atomic { status[0] = PENDING; ring() };
#ifndef ONE_RUN
    if
    :: atomic { live(0) -> status[1] = PENDING; ring() }
    :: atomic { live(0) -> record(0, INTERRUPT); status[1] = PENDING; ring() }
    :: atomic { live(0) -> record(0, ROLLBACK); status[1] = PENDING; ring() }
    :: over(0)
    fi
#endif
}

/* Cancels a run, or deletes one that is live, at any time. */
proctype canceller() {
    byte e;
end_quiet:
    if
    :: atomic { live(0) -> record(0, INTERRUPT) }
    :: atomic { live(0) -> record(0, ROLLBACK) }
    :: atomic { live(0) ->                                              /* delete_run, then _close_streams */
#ifdef DELETE_IN_SAME_EPOCH
        e = shown_epoch(0);
#else
        e = shown_epoch(0) + 1;
#endif
        acked[0] = 0; end_run(0, GONE); ring() };
        atomic {
            if :: stream_fence(0, e) -> epoch[0] = e; closed[0] = 1 :: else fi; e = 0 }
    :: over(0)
    fi
}

/* Time passes, and Redis forgets. */
proctype world() {
end_world:
    do
#ifdef LIVENESS
    :: tick = 1 - tick                                                  /* time goes on when nothing else does */
    :: atomic { status[0] == RUNNING && fresh[0] -> fresh[0] = 0 }
    :: atomic { status[1] == RUNNING && fresh[1] -> fresh[1] = 0 }
#endif
    :: atomic { flushes > 0 && epoch[0] -> flushes--; epoch[0] = 0; newest_event[0] = 0; closed[0] = 0 }
    od
}

/* Nobody can do anything any more: then every run has ended. */
proctype watcher() {
end_watch:
    timeout -> assert(all_over)
}

init {
    atomic {
        run worker(0); run heartbeat(0); run creator(); run canceller();
#ifndef ONE_WORKER
        run worker(1); run heartbeat(1);
#endif
#ifndef NO_SWEEPER
        run sweeper();
#endif
#ifndef LIVENESS
        run watcher();
#endif
        run world()
    }
}

#ifdef LIVENESS
ltl ends { <> [] all_over }
#endif
