/* Whose a lane is: its lock, the owner's turn, errands (native/port/thread.h, thread.cc,
 * watchman.cc), as a model for Spin (https://spinroot.com). Every access of what is shared is one
 * step, in the one order that sequential consistency gives.
 *
 * The owner takes the lock for each call into the lane, but not where it waits there in the kernel,
 * nor while it waits at the notifier in its event loop. `turn` says whether it is in native code
 * (even) or in its program (odd), where it may stay for as long as it likes. Carriers come at any
 * time, only try the lock, and do the owner's work where the turn is odd; what only the owner can do
 * (deadlines that are others now, mail) they leave to it.
 *
 * Proved for all interleavings: no two threads use the lane at a time, none uses one that is gone,
 * and when nothing moves any more, the owner has not gone to sleep over a completion, mail or what an
 * errand has left to it. Run by scripts/check-models.sh, which also makes each mistake on purpose:
 * NO_LOCK_AFTER_TURN: the owner waits without having had the lock since its turn became even.
 * NO_LOOK_AT_TURN: an errand does not ask where the owner is. (Whether the lane is there it need not
 * ask, by this model: the turn of a thread that has left is even. The library asks all the same.)
 * NO_WAKE: an errand does not tell an owner in its event loop.
 * MAIL_BEHIND_WAKE: who sends mail wakes first.
 */
#ifndef CARRIERS
#define CARRIERS 2
#endif
#ifndef COMPLETIONS
#define COMPLETIONS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

bool lock;
bool odd = true;      /* turn % 2 */
bool parked;
bool gone;            /* the lane */
byte users;           /* threads in it */

byte completed;       /* completions that the lane has */
byte taken;
bool notifier;        /* readable: by edges, which an errand uses up as well */
bool woken;           /* of `wake` */
bool mail;
bool left_to_owner;   /* by an errand: a deadline that the notifier does not know of */
byte sent;            /* completions so far */

#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false

inline enter_lane() { assert(!gone); users++; assert(users == 1) }
inline leave_lane() { users-- }

/* Thread::pump, with the lock: two steps at least, so that somebody else could be found in there */
inline pump() {
  enter_lane();
  mail = false;
  atomic { taken = taken + completed; completed = 0 };
  leave_lane()
}

proctype owner() {
  byte round;
  bool sleeps;
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
    round++;
    /* get, poll: Inside */
    parked = false;
    odd = false;
#ifndef NO_LOCK_AFTER_TURN
    LOCK;
    pump();
    left_to_owner = false;
    UNLOCK;
#endif
    if
    :: true -> /* get: waits in the kernel, without the lock */
      if
      :: mail -> skip
      :: !mail ->
        enter_lane();
end_waits:
        (completed > 0 || woken);
        woken = false;
        leave_lane()
      fi;
      LOCK;
      pump();
      left_to_owner = false;
      UNLOCK;
      odd = true
    :: true -> /* poll: goes to its event loop */
      LOCK;
      enter_lane();
      sleeps = !mail && completed == 0;
      leave_lane();
      UNLOCK;
      if
      :: !sleeps -> odd = true /* looks again in the next round */
      :: sleeps ->
        parked = true;
        odd = true;
        /* for as long as it likes it does something else there: errands come */
end_loops:
        (notifier || woken);
        LOCK;
        enter_lane();
        notifier = false;
        woken = false;
        leave_lane();
        UNLOCK
      fi
    :: true -> odd = true /* has packets: to its program */
    fi
  od;
  /* detach */
  odd = false;
  LOCK;
  pump();
  left_to_owner = false;
  gone = true;
  UNLOCK
}

/* Thread::errand, after Thread::needs_errand, which asks the same */
proctype carrier() {
  byte tries;
  do
  :: tries == 2 -> break
  :: tries < 2 ->
    tries++;
    if
    :: atomic { !lock -> lock = true };
      if
#ifndef NO_LOOK_AT_TURN
      :: !odd -> skip
#endif
      :: else ->
        pump();
        notifier = false; /* its edges are used up */
        left_to_owner = true;
#ifndef NO_WAKE
        if
        :: parked -> atomic { woken = true; notifier = true }
        :: else -> skip
        fi
#endif
      fi;
      UNLOCK
    :: atomic { lock -> skip }
    fi
  od
}

/* The kernel: a completion, and the edge that tells of it */
proctype kernel() {
  do
  :: sent == COMPLETIONS || gone -> break
  :: sent < COMPLETIONS && !gone -> atomic { sent++; completed++; notifier = true }
  od
}

/* Another thread of the port sends it a message: Thread::send */
proctype sender() {
#ifdef MAIL_BEHIND_WAKE
  atomic { woken = true; notifier = true };
  mail = true
#else
  mail = true;
  atomic { woken = true; notifier = true }
#endif
}

init {
  byte i;
  atomic {
    run owner();
    run kernel();
    run sender();
    for (i : 1 .. CARRIERS) { run carrier() }
  };
  /* Nothing moves any more. An owner that has not come to its end sleeps; there is nothing for it. */
  timeout ->
    assert(gone || (completed == 0 && !mail && !left_to_owner))
}
