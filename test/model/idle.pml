/* Nobody sleeps over work: the idle word of native/port/waiters.h, as a model for Spin
 * (https://spinroot.com). Every access of an atomic is one step, in the one order that sequential
 * consistency gives; what is done under the waiters' mutex is not one step, but excludes others that have
 * it. Which packet is for whom is left out: work is a number, and whoever takes gets one of it.
 *
 * Proved for all interleavings: when nothing moves any more, nothing is left to be taken; no two
 * threads more than the limit run; the count of threads on their way is what the threads say.
 * Run by scripts/check-models.sh. LATE: a thread that was woken may not come for a long time, and
 * another is sent in its place.
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef LIMIT
#define LIMIT 2
#endif

#define NOBODY 0
#define ASLEEP 1

mtype = { away, waiting, woken, late, searching };

byte work;      /* rings and run queues */
byte idle;      /* the word */
bool mutex;     /* the waiters', and what follows is its */
byte on_way;
byte helpers;
mtype state[THREADS];
byte running;   /* rule D3 */
bool wake[THREADS];   /* an eventfd */
byte posted;

#define LOCK atomic { !mutex -> mutex = true }
#define UNLOCK mutex = false

/* Waiters::publish: `running` is read without a lock that guards it */
inline publish() {
  r = running;
  if
  :: on_way > 0 || r >= LIMIT || helpers == 0 -> idle = NOBODY
  :: else -> idle = ASLEEP
  fi
}

/* `self`: THREADS where it is none of them. Any of those that wait, for the last one in is one. */
inline wake_one(self) {
  LOCK;
  r = running;
  if
  :: on_way > 0 || r >= LIMIT || helpers == 0 -> UNLOCK
  :: else ->
    select(w : 0 .. THREADS - 1);
    do
    :: state[w] == waiting -> break
    :: else -> w = (w + 1) % THREADS
    od;
    state[w] = woken;
    helpers--;
    on_way++;
    publish();
    UNLOCK;
    if
    :: w != self -> wake[w] = true
    :: else -> skip
    fi
  fi
}

inline wake_if_idle() {
  if
  :: idle != NOBODY -> wake_one(THREADS)
  :: else -> skip
  fi
}

inline wake_if_ready(self) {
  if
  :: idle == NOBODY -> skip
  :: else ->
    if
    :: work > 0 -> wake_one(self)
    :: else -> skip
    fi
  fi
}

inline take_place() {
  if
  :: place -> skip
  :: else ->
    atomic {
      if
      :: running < LIMIT -> running++; place = true; at_limit = (running == LIMIT)
      :: else -> at_limit = false
      fi
    };
    if
    :: at_limit && helpers > 0 -> LOCK; publish(); UNLOCK
    :: else -> skip
    fi
  fi
}

inline give_back_place() {
  if
  :: place ->
    place = false;
    atomic { at_limit = (running >= LIMIT); running-- };
    if
    :: at_limit -> LOCK; publish(); UNLOCK; wake_if_ready(THREADS)
    :: else -> skip
    fi
  :: else -> skip
  fi
}

proctype Thread(byte me) {
  byte r, w;
  bool place, at_limit, got;
  do
  :: take_place();
    got = false;
    atomic {
      if
      :: place && work > 0 -> work--; got = true
      :: else -> skip
      fi
    };
    assert(running <= LIMIT);
    if
    :: !got -> give_back_place()
    :: else -> skip
    fi;
    if
    :: state[me] == searching ->  /* end_search */
      LOCK;
      on_way--;
      state[me] = away;
      publish();
      UNLOCK;
      wake_if_ready(me)
    :: else ->
      if
      :: work > 0 -> wake_if_idle()
      :: else -> skip
      fi
    fi;
    if
    :: got -> skip  /* the handler */
    :: else ->      /* park */
      LOCK;
      state[me] = waiting;
      helpers++;
      publish();
      UNLOCK;
      wake_if_ready(me);
      if
      :: state[me] == waiting ->
end:    wake[me] -> wake[me] = false
      :: else -> skip
      fi;
      LOCK;         /* unpark */
      if
      :: state[me] == waiting -> helpers--; on_way++
      :: state[me] == late -> on_way++
      :: else -> skip
      fi;
      state[me] = searching;
      publish();
      UNLOCK
    fi
  od
}

proctype Producer() {
  byte r, w;
  do
  :: posted < MESSAGES ->
    posted++;
    work++;          /* the ring's tail */
    wake_if_idle()
  :: else -> break
  od
}

#ifdef LATE
/* relieve */
proctype Watchman() {
  byte r, w;
  byte i = 0;
  do
  :: i < THREADS ->
    LOCK;
    if
    :: state[i] == woken -> state[i] = late; on_way--; publish(); UNLOCK; wake_if_ready(THREADS)
    :: else -> UNLOCK
    fi;
    i++
  :: else -> break
  od
}
#endif

init {
  byte i;
  atomic {
    for (i : 0 .. THREADS - 1) {
      state[i] = away;
      run Thread(i)
    }
    run Producer();
#ifdef LATE
    run Watchman();
#endif
  };
  timeout;  /* nothing else can move */
  assert(work == 0);
  assert(on_way == 0);
  assert(running == 0);
  assert(helpers == THREADS)
}
