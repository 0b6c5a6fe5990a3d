/**
 * Which stream sends next. Class 1 comes first but leaves half of the link to others that wait; class 2 before 3,
 * which still gets an eighth; within 2 and 3 deficit round robin, first by share key (cluster), then by stream, so
 * that fifteen streams of one cluster do not outweigh one of another. O(1) per frame.
 */
import { DEFAULT_MAX_FRAME_BYTES } from './frame.ts';
import type { StreamClass } from './ports.ts';

/** Bytes that a share key, and a stream within it, may send per turn. */
const QUANTUM_BYTES = DEFAULT_MAX_FRAME_BYTES;
/** Class 1 may run ahead of waiting others by this much before it has to share. */
const COMMAND_LEAD_BYTES = 2 * QUANTUM_BYTES;
/** Class 3 gets one turn after this many bytes of class 2, so that it never starves. */
const BULK_AFTER_BYTES = 7 * QUANTUM_BYTES;
/** More than this within RATE_WINDOW_MS makes an interactive stream bulk. */
export const BULK_RATE_BYTES = 1024 * 1024;
export const RATE_WINDOW_MS = 1000;

/** A sender in the scheduler's eyes. `link` belongs to the scheduler. */
export interface Flow {
  readonly shareKey: string;
  /** The class asked for at OPEN; the scheduler may treat a 2 as 3 for a while. */
  readonly class: StreamClass;
  readonly link: FlowLink;
}

/** Scheduler's own memory about a flow, kept on the flow so that nothing has to be looked up. */
export class FlowLink {
  group: Group | undefined;
  next: Flow | undefined;
  previous: Flow | undefined;
  deficit = 0;
  demoted = false;
  rateStart = 0;
  rateBytes = 0;
  lastSent = 0;
}

/** Flows of one share key in one class: a ring, and a place in the ring of groups. */
class Group {
  readonly ring: Ring;
  readonly key: string;
  head: Flow | undefined;
  next: Group | undefined;
  previous: Group | undefined;
  deficit = 0;
  constructor(ring: Ring, key: string) {
    this.ring = ring;
    this.key = key;
  }
}

/** Groups of one class. */
class Ring {
  readonly groups = new Map<string, Group>();
  head: Group | undefined;
}

export class Scheduler {
  readonly #rings: Record<StreamClass, Ring> = { 1: new Ring(), 2: new Ring(), 3: new Ring() };
  #commandLead = 0;
  #bulkWait = 0;

  /** The flow has something that it may send. Idempotent. */
  activate(flow: Flow, now: number): void {
    const { link } = flow;
    if (link.group !== undefined) return;
    if (link.demoted && now - link.lastSent >= RATE_WINDOW_MS) link.demoted = false;
    const ring = this.#rings[link.demoted ? 3 : flow.class];
    let group = ring.groups.get(flow.shareKey);
    if (group === undefined) {
      group = new Group(ring, flow.shareKey);
      ring.groups.set(flow.shareKey, group);
      linkGroup(ring, group);
    }
    linkFlow(group, flow);
  }

  /** The flow has nothing more to send, or may not. Idempotent. */
  deactivate(flow: Flow): void {
    const { group } = flow.link;
    if (group === undefined) return;
    unlinkFlow(group, flow);
    flow.link.deficit = 0;
    if (group.head === undefined) {
      unlinkGroup(group.ring, group);
      group.ring.groups.delete(group.key);
    }
  }

  /** True when a flow of class 1 or 2 waits, or of any class. */
  get waiting(): 'none' | 'bulk' | 'urgent' {
    if (this.#rings[1].head !== undefined || this.#rings[2].head !== undefined) return 'urgent';
    return this.#rings[3].head === undefined ? 'none' : 'bulk';
  }

  /** The flow whose turn it is among the classes up to `lowest`, or undefined. Ask again after `sent`. */
  pick(lowest: StreamClass): Flow | undefined {
    const commands = this.#rings[1].head !== undefined;
    const interactive = lowest >= 2 && this.#rings[2].head !== undefined;
    const bulk = lowest >= 3 && this.#rings[3].head !== undefined;
    if (commands && (this.#commandLead < COMMAND_LEAD_BYTES || !(interactive || bulk)))
      return turn(this.#rings[1]);
    if (interactive && !(bulk && this.#bulkWait >= BULK_AFTER_BYTES)) return turn(this.#rings[2]);
    return bulk ? turn(this.#rings[3]) : undefined;
  }

  /** The picked flow sent `bytes`; moves the turn on when its share is used up. */
  sent(flow: Flow, bytes: number, now: number): void {
    const { link } = flow;
    link.lastSent = now;
    const { group } = link;
    const cls = link.demoted ? 3 : flow.class;
    const others = this.#rings[2].head !== undefined || this.#rings[3].head !== undefined;
    if (cls === 1) this.#commandLead = others ? this.#commandLead + bytes : 0;
    else this.#commandLead = Math.max(0, this.#commandLead - bytes);
    if (cls === 2) this.#bulkWait = this.#rings[3].head === undefined ? 0 : this.#bulkWait + bytes;
    if (cls === 3) this.#bulkWait = 0;
    if (group !== undefined) {
      link.deficit -= bytes;
      group.deficit -= bytes;
      if (link.deficit <= 0) group.head = link.next;
      if (group.deficit <= 0) group.ring.head = group.next;
    }
    if (flow.class === 2) this.#watchRate(flow, bytes, now);
  }

  #watchRate(flow: Flow, bytes: number, now: number): void {
    const { link } = flow;
    if (now - link.rateStart > RATE_WINDOW_MS) {
      link.rateStart = now;
      link.rateBytes = 0;
    }
    link.rateBytes += bytes;
    if (link.demoted || link.rateBytes <= BULK_RATE_BYTES) return;
    const active = link.group !== undefined;
    if (active) this.deactivate(flow);
    link.demoted = true;
    if (active) this.activate(flow, now);
  }
}

/** The flow at the head, with its shares topped up. A flow may overdraw by one frame and pays in later rounds. */
function turn(ring: Ring): Flow | undefined {
  const group = ring.head;
  if (group === undefined) return undefined;
  if (group.deficit <= 0) group.deficit += QUANTUM_BYTES;
  const flow = group.head as Flow;
  if (flow.link.deficit <= 0) flow.link.deficit += QUANTUM_BYTES;
  return flow;
}

function linkFlow(group: Group, flow: Flow): void {
  const { link } = flow;
  link.group = group;
  if (group.head === undefined) {
    group.head = flow;
    link.next = flow;
    link.previous = flow;
    return;
  }
  // behind the one whose turn it is, at the end of the round
  const tail = group.head.link.previous as Flow;
  link.previous = tail;
  link.next = group.head;
  tail.link.next = flow;
  group.head.link.previous = flow;
}

function unlinkFlow(group: Group, flow: Flow): void {
  const { link } = flow;
  if (link.next === flow) group.head = undefined;
  else {
    const next = link.next as Flow;
    const previous = link.previous as Flow;
    previous.link.next = next;
    next.link.previous = previous;
    if (group.head === flow) group.head = next;
  }
  link.group = undefined;
  link.next = undefined;
  link.previous = undefined;
}

function linkGroup(ring: Ring, group: Group): void {
  if (ring.head === undefined) {
    ring.head = group;
    group.next = group;
    group.previous = group;
    return;
  }
  const tail = ring.head.previous as Group;
  group.previous = tail;
  group.next = ring.head;
  tail.next = group;
  ring.head.previous = group;
}

function unlinkGroup(ring: Ring, group: Group): void {
  if (group.next === group) ring.head = undefined;
  else {
    const next = group.next as Group;
    const previous = group.previous as Group;
    previous.next = next;
    next.previous = previous;
    if (ring.head === group) ring.head = next;
  }
  group.next = undefined;
  group.previous = undefined;
}
