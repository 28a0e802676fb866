/* A thread's ring of messages and the memory their bytes lie in (lib/thread/posts.ts,
 * native/port/posts.h, Thread::next_message_block, BufferPool::hold), as a model for Spin
 * (https://spinroot.com). Every access of what is shared is one step, in the one order that
 * sequential consistency gives.
 *
 * The writer fills a place of its block and a place of the ring, and then moves the tail, without a
 * lock. It sets room aside first, under its consumer's lock. Whoever takes messages out has that lock:
 * each message gets a hold of its block there, and is read and let go of afterwards, without it. A
 * block that is full is used again where the writer alone holds it, else given up for another one; the
 * last hold frees it, and then it is somebody else's. The writer may die between any two steps: what is
 * in the ring is taken, and its hold given up, by who ends it.
 *
 * Proved for all interleavings: what is read is what was written, although places of the ring and of
 * blocks are used again; each message that was posted is taken once, and no other; no hold is given up
 * that there is not, and at the end none is left. Run by scripts/check-models.sh, which also makes each
 * mistake on purpose:
 * NO_SECURE: the writer looks at its block without giving those in the ring their holds first.
 * LATE_HOLD: messages are held when the lock is free again.
 * NO_ROOM: the writer goes on without room.
 * EARLY_TAIL: the tail moves before the message is in its place.
 */
#ifndef TAKERS
#define TAKERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#define CAPACITY 2    /* of the ring */
#define PLACES 2      /* of a block */
#define BLOCKS 3
#define NOBODYS 255   /* what a freed block holds */
#define EMPTY 254

bool lock;            /* the consumer's */
byte ring_block[CAPACITY];
byte ring_place[CAPACITY];
byte ring_name[CAPACITY];
byte tail, head;      /* messages written, and taken out, so far */
byte secured;
byte room;            /* for messages that are not taken out */

byte holds[BLOCKS];
byte bytes[BLOCKS * PLACES];
byte current;         /* the writer's block */

byte taken[MESSAGES];
byte posted;
bool over;            /* the writer is gone, and what it had given up */

#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false

/* A word of its own for each block: one step. */
inline let_go(block) {
  atomic {
    assert(holds[block] > 0);
    holds[block]--;
    if
    :: holds[block] == 0 -> bytes[block * PLACES] = NOBODYS; bytes[block * PLACES + 1] = NOBODYS
    :: else
    fi
  }
}

/* With the lock: those up to `end` hold their blocks. */
inline secure(end) {
  do
  :: secured < end -> holds[ring_block[secured % CAPACITY]]++; secured++
  :: else -> break
  od
}

/* The writer's block is full, or there is none. */
inline next_block() {
  LOCK;
#ifndef NO_SECURE
  secure(tail);
#endif
  UNLOCK;
  if
  :: current < BLOCKS && holds[current] == 1
  :: else ->
    /* another thread's, or nobody's: no hold is left of it */
    atomic {
      if
      :: holds[0] == 0 -> next = 0
      :: holds[1] == 0 -> next = 1
      :: holds[2] == 0 -> next = 2
      fi;
      holds[next] = 1
    };
    if
    :: current < BLOCKS -> let_go(current)
    :: else
    fi;
    current = next
  fi;
  atomic { bytes[current * PLACES] = EMPTY; bytes[current * PLACES + 1] = EMPTY };
  place = 0
}

#define DIES goto gone

proctype writer() {
  byte name, place = PLACES, next, mine, free;
  do
  :: name == MESSAGES -> break
  :: name < MESSAGES ->
    if
    :: true
    :: DIES
    fi;
#ifndef NO_ROOM
    if
    :: mine > 0
    :: else ->
      LOCK;
      free = CAPACITY - room;
      room = room + free;
      mine = free;
      UNLOCK;
      if
      :: mine > 0
      :: else -> goto again  /* the queue is full: the program tries again */
      fi
    fi;
    mine--;
#else
    LOCK; room++; UNLOCK;
#endif
    if
    :: place == PLACES -> next_block()
    :: else
    fi;
    if
    :: true
    :: DIES
    fi;
    bytes[current * PLACES + place] = name;
#ifdef EARLY_TAIL
    atomic { posted++; tail++ };
#endif
    ring_name[tail % CAPACITY] = name;
    ring_block[tail % CAPACITY] = current;
    ring_place[tail % CAPACITY] = place;
#ifndef EARLY_TAIL
    atomic { posted++; tail++ };
#endif
    place++;
    name++
again:
    skip
  od;
gone:
  /* Whoever ends the thread: those in the ring hold their blocks, and it holds none any more. */
  LOCK;
  secure(tail);
  UNLOCK;
  if
  :: current < BLOCKS -> let_go(current)
  :: else
  fi;
  over = true
}

proctype taker() {
  byte block, at, name;
  do
  :: head != tail ->
    LOCK;
    if
    :: head != tail && room > 0 ->
#ifndef LATE_HOLD
      secure(head + 1);
#endif
      block = ring_block[head % CAPACITY];
      at = ring_place[head % CAPACITY];
      name = ring_name[head % CAPACITY];
      room--;
      head++;
      UNLOCK;
#ifdef LATE_HOLD
      holds[block]++;
#endif
      assert(bytes[block * PLACES + at] == name);
      assert(taken[name] == 0);
      taken[name]++;
      let_go(block)
    :: else -> UNLOCK
    fi
  :: over && head == tail -> break
  od
}

init {
  byte i;
  current = BLOCKS;
  atomic {
    run writer();
    for (i : 1 .. TAKERS) { run taker() }
  };
  (_nr_pr == 1);
  for (i : 0 .. MESSAGES - 1) { assert(taken[i] == (i < posted -> 1 : 0)) };
  assert(holds[0] == 0 && holds[1] == 0 && holds[2] == 0)
}
