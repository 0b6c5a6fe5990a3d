import { describe, expect, it } from 'vitest';
import { belongsTo, judgeRemoval, majority, type MemberView, nextLeader } from '../../src/kube/quorum.ts';

/** `+` healthy voter, `-` dead voter, `l` learner; ids are positions. */
function members(picture: string): MemberView[] {
  return picture.split('').map((mark, index) => ({
    id: String(index),
    name: `cp-${index}`,
    peerUrls: [`https://10.0.0.${index}:2380`],
    learner: mark === 'l',
    healthy: mark === '+' || mark === 'l',
  }));
}

describe('removing an etcd member', () => {
  it.each([
    ['+++', 0, 'allowed'],
    ['++-', 2, 'allowed'],
    ['++-', 0, 'quorum-at-risk'],
    ['+--', 2, 'quorum-lost'],
    ['++', 0, 'allowed'],
    ['+-', 1, 'quorum-lost'],
    ['+', 0, 'last-member'],
    ['+++++', 0, 'allowed'],
    ['++++-', 0, 'allowed'],
    ['+++--', 0, 'quorum-at-risk'],
    ['+++--', 4, 'allowed'],
    ['+++l', 0, 'learner-present'],
    ['+++l', 3, 'allowed'],
    ['+--l', 3, 'quorum-lost'],
    ['', 0, 'absent'],
    ['+++', 9, 'absent'],
  ])('%s without member %i: %s', (picture, index, wanted) => {
    const verdict = judgeRemoval(members(picture), String(index));
    expect(verdict.kind === 'refused' ? verdict.reason : verdict.kind).toBe(wanted);
  });

  it('never leaves fewer healthy voters than a majority, whatever the picture', () => {
    for (let voters = 1; voters <= 7; voters += 1)
      for (let mask = 0; mask < 2 ** voters; mask += 1) {
        const picture = Array.from({ length: voters }, (_, bit) => (mask & (1 << bit) ? '+' : '-')).join('');
        for (const member of members(picture)) {
          if (judgeRemoval(members(picture), member.id).kind !== 'allowed') continue;
          const left = members(picture).filter((other) => other.id !== member.id);
          expect(left.filter((other) => other.healthy).length).toBeGreaterThanOrEqual(majority(left.length));
        }
      }
  });
});

describe('leadership', () => {
  it('goes to a healthy voter only', () => {
    expect(nextLeader(members('+-l+'), '0')?.id).toBe('3');
    expect(nextLeader(members('+-l'), '0')).toBeUndefined();
  });
});

describe('whose a member is that never started', () => {
  it.each([
    ['https://10.0.0.7:2380', '10.0.0.7'],
    ['https://[fd00::7]:2380', 'fd00::7'],
  ])('%s is of the machine with %s', (peerUrl, address) => {
    const member = { name: '', peerUrls: [peerUrl] };
    expect(belongsTo(member, { name: 'cp-1', addresses: [address] })).toBe(true);
    expect(belongsTo(member, { name: 'cp-1', addresses: ['10.0.0.70', 'fd00::70'] })).toBe(false);
  });
});
