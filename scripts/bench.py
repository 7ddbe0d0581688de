#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the benchmark's cases on both kernels, compare, and print; see scripts/bench.sh.

A case is one boot of a UML kernel with one workload (tools/testing/ksm/bench/kbench.c). A
row is one number that is computed from what a case printed. Each round runs every case
once on each side, in alternating order; a row shows the medians over the rounds.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(TOP, 'build', 'bench')
ROOT = os.path.join(OUT, 'root')
BINARY = {'mainline': 'build/out/mainline-uml/linux', 'ours': 'build/out/linux-uml/linux'}
SIDES = ('mainline', 'ours')
CASE_LIMIT_S = 900
PAGE = 4096
NOISE_CASE = 'unshared-64m'

# The case's name: memory in MiB and options of kbench.
CASES = {
    'unshared-64m': (64, 'passes=10'),
    'unshared-256m': (256, 'passes=8'),
    'unshared-1g': (1024, 'passes=6'),
    'unshared-2g': (2048, 'passes=5'),
    'unshared-smart': (128, 'passes=50 smart=1'),
    'copies': (256, 'copies=16 passes=10 unmerge=1'),
    'copies-hold': (256, 'copies=16 passes=4 hold=1'),
    'one-word': (256, 'oneword=1 passes=6'),
    'one-word-pairs': (256, 'oneword=1 copies=2 passes=10'),
    'written': (256, 'write=10 passes=12 smart=1'),
    'written-all': (256, 'write=10 passes=8'),
    'small': (400, 'small=100 passes=4'),
    'pairs': (64, 'copies=2 passes=6'),
    'pairs-written': (64, 'copies=2 write=10 passes=8'),
    'pairs-written-smart': (64, 'copies=2 write=10 passes=20 smart=1'),
    'late-smart': (128, 'copies=2 late=15 passes=28 smart=1'),
    'copies-3000': (64, 'copies=3000 passes=6'),
}
# Cases that have no row but must merge as much as mainline (row `yield`).
YIELD_CASES = ('pairs', 'pairs-written', 'pairs-written-smart', 'late-smart',
               'copies-3000')
YIELD = 'yield'
# The longest of many holds is at the mercy of the host: more tries.
REPEATS = {'copies-hold': 3}

# Lock holds have a kernel with swap and a workload of their own.
LOCKS_BINARY = {'mainline': 'build/out/mainline-uml-locks/linux',
                'ours': 'build/out/linux-uml-locks/linux'}
LOCKS_MIB = 512
LOCKS_CASES = {
    'sharers': ('20,000 sharers in 200 processes', 'procs=200 pages=100'),
    'sharers-10000': ('the same, max_page_sharing 10,000', 'procs=200 pages=100 sharing=10000'),
    'areas': ('20,000 areas of one anon_vma', 'procs=1 pages=20000 areas=1'),
    'sparse': ('a page in each GiB of 256', 'procs=1 pages=256 stride=1024'),
}
LOCKS_PHASES = ('scan', 'migrate', 'unmerge', 'reclaim')
LOCKS_NAMES = ('scan', 'mmap_lock', 'anon_vma', 'folio', 'PTE')
LOCKS = 'locks'
LOCKS_MMAP_MAX_NS = 2000000
LOCKS_RATIO = 10

PASS_FIELDS = ('ksmd_ns', 'ns', 'scanned', 'shared', 'sharing', 'unshared', 'volatile',
               'ranges', 'flushes')


class BenchError(Exception):
    pass


def parse_result(text):
    result = {'passes': []}
    for line in text.splitlines():
        key, *words = line.split()
        if key == 'error':
            raise BenchError(line)
        numbers = [] if key == 'locks' else [int(word) for word in words]
        if key == 'pass':
            one = dict(zip(PASS_FIELDS, numbers[1:]))
            one['merged'] = one['shared'] + one['sharing']
            result['passes'].append(one)
        elif key == 'pages':
            result['pages'] = numbers[0]
        elif key == 'memory':
            result['memory'], result['slab'] = numbers
        elif key == 'boot':
            result['boot_kib'] = numbers[0]
        elif key == 'unmerge':
            result['unmerge_ns'], result['unmerge_pages'] = numbers
        elif key == 'hold':
            (result['holds'], result['hold_max'], result['hold_interrupted_max'],
             result['hold_noise']) = numbers
        elif key == 'holds':
            result['holds_by_us'] = numbers
        elif key == 'locks':
            longest = result.setdefault('locks', {}).setdefault(words[0], [0] * len(LOCKS_NAMES))
            result['locks'][words[0]] = [max(pair) for pair in zip(longest, map(int, words[1:]))]
        elif key == 'merged':
            result['merged'] = numbers[0]
        elif key == 'done':
            return result
        else:
            raise BenchError('unknown line: ' + line)
    raise BenchError('the result ends early')


def memory_dir(mib):
    """Where the guest's memory goes: a tmpfs if there is one that is large enough."""
    place = os.environ.get('TMPDIR', '/dev/shm')
    try:
        space = os.statvfs(place)
        if space.f_bavail * space.f_frsize >= mib << 20:
            return place
    except OSError:
        pass
    log(f'bench: no room for {mib} MiB in {place}; using {OUT}, which is slower')
    return OUT


def run_case(side, case, perf=None):
    if case in LOCKS_CASES:
        return run_guest(side, case, LOCKS_BINARY[side], LOCKS_MIB, '/klocks',
                         LOCKS_CASES[case][1].split())
    mib, options = CASES[case]
    options = options.split()
    if not any(option.startswith('small=') for option in options):
        options.append(f'mib={mib}')
    return run_guest(side, case, BINARY[side], mib * 6 // 5 + 192, '/kbench', options, perf)


def run_guest(side, case, binary, guest_mib, init, options, perf=None):
    result_file = os.path.join(ROOT, 'result')
    log_file = os.path.join(OUT, f'{side}-{case}.log')
    if os.path.exists(result_file):
        os.unlink(result_file)
    # UML adds to its memory what address space randomization leaves free above its code.
    command = ['setarch', '-R', os.path.join(TOP, binary), f'mem={guest_mib}M',
               'root=none', 'rootfstype=hostfs', f'rootflags={ROOT}', 'rw', 'loglevel=5',
               'console=tty0', 'con=null', 'con0=null,fd:2', f'init={init}', '--']
    command += options
    if perf:
        command = ['perf', 'record', '-o', perf, '--'] + command
    # glibc's rseq area would survive into UML's stub processes, where it isn't mapped.
    env = dict(os.environ, GLIBC_TUNABLES='glibc.pthread.rseq=0',
               TMPDIR=memory_dir(guest_mib))
    with open(log_file, 'w') as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=env, start_new_session=True)
        try:
            process.wait(timeout=CASE_LIMIT_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BenchError(f'{side} {case}: stopped ({type(error).__name__})') from error
    with open(log_file) as log:
        console = log.read()
    if any(word in console for word in ('WARNING:', 'BUG:', 'Oops', 'Kernel panic',
                                         'Out of memory')):
        raise BenchError(f'{side} {case}: the kernel complained, see {log_file}')
    try:
        with open(result_file) as result:
            return parse_result(result.read())
    except (OSError, BenchError) as error:
        raise BenchError(f'{side} {case}: {error}, see {log_file}') from error


def per_page(result, ns):
    return ns / 1000 / result['pages']


def mean_of_passes(first):
    """CPU per page and pass, from pass number `first` to the last."""
    def value(result):
        passes = result['passes'][first - 1:]
        return per_page(result, sum(p['ns'] for p in passes)) / len(passes)
    return value


def sum_of_passes(result):
    return per_page(result, sum(p['ns'] for p in result['passes']))


def until_merged(share):
    """CPU per page of all passes until `share` of the pages is merged."""
    def value(result):
        total = 0
        for one in result['passes']:
            total += one['ns']
            if one['merged'] >= share * result['pages']:
                return per_page(result, total)
        raise BenchError(f'{share:.0%} never got merged')
    return value


def after_merging(result):
    """The passes after the first one that merged nothing more."""
    passes = result['passes']
    quiet = [p for last, p in zip(passes, passes[1:]) if p['merged'] == last['merged'] > 0]
    return per_page(result, sum(p['ns'] for p in quiet)) / len(quiet)


def per_merged_page(field):
    def value(result):
        return (sum(p[field] for p in result['passes']) /
                max(p['merged'] for p in result['passes']))
    return value


def first_pass(result):
    return per_page(result, result['passes'][0]['ns'])


def unmerging(result):
    return result['unmerge_ns'] / 1000 / result['unmerge_pages']


def metadata(result):
    """Memory that is held for each page; what merging freed doesn't count against it."""
    freed = result['passes'][-1]['sharing'] * PAGE
    return (result['memory'] + freed) / result['pages']


def longest_hold(result):
    return result['hold_max'] / 1000


def hold_noise(result):
    """The longest of as many runs of an empty loop of the same mean length."""
    return result['hold_noise'] / 1000


def hold_quantile(share):
    """A length in us that `share` of the holds don't exceed."""
    def value(result):
        left = share * sum(result['holds_by_us'])
        for us, count in enumerate(result['holds_by_us'], 1):
            left -= count
            if left <= 0:
                return us
        return len(result['holds_by_us'])
    return value


def ratio_goal(times):
    return f'>= {times:g}x less', lambda mainline, ours: ours * times <= mainline


def limit_goal(limit):
    return f'<= {limit:g}', lambda mainline, ours: ours <= limit


def factor_goal(times):
    return f'<= {times:g}x mainline', lambda mainline, ours: ours <= times * mainline


NO_GOAL = ('', None)

# name, what, unit, case, value of a result, (goal in words, is it reached?)
ROWS = (
    ('steady-64m', 'steady pass, unshared, 64 MiB', 'us/page', 'unshared-64m',
     mean_of_passes(4), NO_GOAL),
    ('steady-256m', 'steady pass, unshared, 256 MiB', 'us/page', 'unshared-256m',
     mean_of_passes(4), NO_GOAL),
    ('steady-1g', 'steady pass, unshared, 1 GiB', 'us/page', 'unshared-1g',
     mean_of_passes(4), ratio_goal(20)),
    ('steady-2g', 'steady pass, unshared, 2 GiB', 'us/page', 'unshared-2g',
     mean_of_passes(4), NO_GOAL),
    ('smart', 'smart_scan 1, mean of 36 passes', 'us/page', 'unshared-smart',
     mean_of_passes(15), ratio_goal(10)),
    ('first', 'first pass', 'us/page', 'unshared-256m', first_pass, ratio_goal(4)),
    ('copies', '16 copies, until 99 % is merged', 'us/page', 'copies', until_merged(0.99),
     ratio_goal(2)),
    ('one-word', 'equal but for one word, steady', 'us/page', 'one-word', mean_of_passes(4),
     ratio_goal(6)),
    ('one-word-pairs', 'the same, twice each, 10 passes', 'us/page', 'one-word-pairs',
     sum_of_passes, ratio_goal(3)),
    ('written', '10 % written, smart_scan 1, 12 passes', 'us/page', 'written',
     mean_of_passes(2), ratio_goal(6)),
    ('written-all', '10 % written, smart_scan 0', 'us/page', 'written-all', mean_of_passes(3),
     ratio_goal(6)),
    ('merged', 'steady pass over merged pages', 'us/page', 'copies', after_merging,
     ratio_goal(3)),
    ('unmerge', 'unmerging', 'us/page', 'copies', unmerging, ratio_goal(1.2)),
    ('metadata', 'memory per tracked page, dense', 'bytes', 'unshared-256m', metadata,
     limit_goal(40)),
    ('small', 'memory per page, small processes', 'bytes', 'small', metadata,
     factor_goal(1.5)),
    ('ranges', 'mmu_notifier ranges', '/merged page', 'copies', per_merged_page('ranges'),
     limit_goal(0.25)),
    ('flushes', 'TLB flushes', '/merged page', 'copies', per_merged_page('flushes'),
     limit_goal(0.25)),
    ('hold', 'longest hold of a PTE lock', 'us', 'copies-hold', longest_hold,
     limit_goal(30)),
    ('hold-noise', 'the same without lock or work', 'us', 'copies-hold', hold_noise, NO_GOAL),
    ('hold-999', '99.9 % of these holds are below', 'us', 'copies-hold', hold_quantile(0.999),
     limit_goal(30)),
)
# A hold that is long by itself is long in every round, one that the host lengthened is not: the
# least of the rounds counts here, not the median.
LEAST_ROWS = ('hold', 'hold-noise')
# Rows made of other rows: growth from 64 MiB to 2 GiB.
GROWTH = ('growth', 'growth from 64 MiB to 2 GiB', 'x', ('steady-64m', 'steady-2g'),
          limit_goal(1.2))


def log(text):
    print(text, file=sys.stderr, flush=True)


def print_passes(result):
    """What a developer wants to see of a single run."""
    print('pass   us/page  ksmd only   scanned    shared   sharing  unshared  volatile'
          '  ranges flushes')
    for number, one in enumerate(result['passes'], 1):
        print(f'{number:4} {per_page(result, one["ns"]):9.3f} '
              f'{per_page(result, one["ksmd_ns"]):10.3f} {one["scanned"]:9} {one["shared"]:9} '
              f'{one["sharing"]:9} {one["unshared"]:9} {one["volatile"]:9} {one["ranges"]:7} '
              f'{one["flushes"]:7}')
    print(f'memory {metadata(result):.1f} bytes a page, of it slab '
          f'{result["slab"] / result["pages"]:.1f}')
    if 'holds' in result:
        print(f'{result["holds"]} holds of page table locks, longest {longest_hold(result):.1f} us '
              f'(with an interrupt in it {result["hold_interrupted_max"] / 1000:.1f}; '
              f'an empty loop {hold_noise(result):.1f}), '
              f'{sum(result["holds_by_us"][30:])} over 30 us; 99.9 % are below '
              f'{hold_quantile(0.999)(result)} us')


def run_rounds(cases, rounds, sides):
    """{case: {side: [result of each round]}}, and the ratios of mainline against itself."""
    results = {case: {side: [] for side in sides} for case in cases}
    noise = []
    for number in range(rounds):
        for case in cases:
            for side in sides if number % 2 == 0 else sides[::-1]:
                start = time.monotonic()
                for _ in range(REPEATS.get(case, 1)):
                    results[case][side].append(run_case(side, case))
                log(f'  BENCH   round {number + 1} of {rounds}, {case}, {side}: '
                    f'{time.monotonic() - start:.1f} s')
        value = mean_of_passes(4)
        pair = [value(run_case('mainline', NOISE_CASE)) for _ in range(2)]
        noise.append(max(pair) / min(pair))
    return results, noise


def evaluate(rows, results):
    table = []
    for name, what, unit, case, value, (goal, reached) in rows:
        middle = min if name in LEAST_ROWS else statistics.median
        medians = {side: middle([value(one) for one in runs])
                   for side, runs in results[case].items()}
        table.append(evaluated(name, what, unit, medians, goal, reached))
    by_name = {row['name']: row for row in table}
    name, what, unit, (small, large), (goal, reached) = GROWTH
    if small in by_name and large in by_name:
        medians = {side: by_name[large][side] / by_name[small][side] for side in SIDES}
        place = table.index(by_name[large]) + 1
        table.insert(place, evaluated(name, what, unit, medians, goal, reached))
    return table


def evaluated(name, what, unit, medians, goal, reached):
    mainline, ours = medians['mainline'], medians['ours']
    return {'name': name, 'what': what, 'unit': unit, 'mainline': mainline, 'ours': ours,
            'ratio': mainline / ours if ours else None, 'goal': goal,
            'reached': reached(mainline, ours) if reached else None}


def yields(results):
    """Pages merged after each pass: the least of ours against the most of mainline."""
    table = []
    for case, runs in results.items():
        merged = {side: list(zip(*([p['merged'] for p in one['passes']] for one in runs[side])))
                  for side in SIDES}
        most = [max(rounds) for rounds in merged['mainline']]
        least = [min(rounds) for rounds in merged['ours']]
        table.append({'case': case, 'mainline': most, 'ours': least,
                      'reached': all(a >= b for a, b in zip(least, most))})
    return table


def lock_holds(results):
    """The longest hold of each lock: a row for each load and phase, the least of the rounds."""
    table = []
    for case, runs in results.items():
        for phase in LOCKS_PHASES:
            row = {'case': case, 'phase': phase}
            for side in SIDES:
                row[side] = [min(holds) for holds in
                             zip(*(one['locks'][phase] for one in runs[side]))]
                # Who unmerges or reclaims holds locks of the file that is written to, and no scan.
                if phase != 'scan':
                    row[side][0] = None
            table.append(row)
    return table


def report_locks(table):
    lines = ['', 'longest holds of locks, us of the host\'s CPU, mainline / ours (least of all rounds)',
             f'{"":42} ' + ' '.join(f'{name:>17}' for name in LOCKS_NAMES)]
    for row in table:
        what = LOCKS_CASES[row['case']][0] if row['phase'] == LOCKS_PHASES[0] else ''
        cells = [f'{mainline / 1000:.0f} / {ours / 1000:.0f}' if mainline is not None else '-'
                 for mainline, ours in zip(row['mainline'], row['ours'])]
        lines.append(f'{what:33} {row["phase"]:8} ' + ' '.join(f'{cell:>17}' for cell in cells))
    worst = {side: [max(row[side][lock] or 0 for row in table) for lock in range(len(LOCKS_NAMES))]
             for side in SIDES}
    lines.append(f'{"the worst of all":42} ' + ' '.join(
        f'{f"{mainline / 1000:.0f} / {ours / 1000:.0f}":>17}'
        for mainline, ours in zip(worst['mainline'], worst['ours'])))
    reached = max(worst['ours']) * LOCKS_RATIO <= max(worst['mainline'])
    lines.append(f'no hold above 1/{LOCKS_RATIO} of mainline\'s worst: {VERDICT[reached]}')
    reached = worst['ours'][LOCKS_NAMES.index('mmap_lock')] <= LOCKS_MMAP_MAX_NS
    lines.append(f'no hold of mmap_lock above {LOCKS_MMAP_MAX_NS // 1000000} ms: {VERDICT[reached]}')
    return '\n'.join(lines) + '\n'


def short(numbers):
    """A list with the repetitions at its end left out."""
    last = len(numbers)
    while last > 1 and numbers[last - 1] == numbers[last - 2]:
        last -= 1
    return ' '.join(map(str, numbers[:last])) + (' ...' if last < len(numbers) else '')


def format_number(value):
    return f'{value:.3f}' if value < 10 else f'{value:.1f}'


VERDICT = {True: 'yes', False: 'NO', None: ''}

DISTORTIONS = (
    'UML has one CPU and no transparent huge pages; spinlocks and TLB flushes cost nothing there,',
    'so that batching them saves more on real machines than is seen here. Guest memory is a host',
    'file in pages of 4 KiB, so that cold pages cost more TLB misses than in the direct map of a',
    'real kernel. Every hold of a page table lock includes the reading of the CPU clock.',
)


def boot_memory(results):
    """KiB that ours holds from boot on, over mainline: forests, code and all."""
    differences = [ours['boot_kib'] - mainline['boot_kib'] for runs in results.values()
                   for mainline, ours in zip(runs['mainline'], runs['ours'])]
    return statistics.median(differences)


def report(table, yield_table, noise, rounds, boot_kib):
    lines = [f'{"":38} {"unit":13} {"mainline":>9} {"ours":>9} {"ratio":>7}  {"goal":15} reached']
    for row in table:
        ratio = f'{row["ratio"]:.2f}' if row['ratio'] is not None else '-'
        lines.append(f'{row["what"]:38} {row["unit"]:13} {format_number(row["mainline"]):>9} '
                     f'{format_number(row["ours"]):>9} {ratio:>7}  {row["goal"]:15} '
                     f'{VERDICT[row["reached"]]}'.rstrip())
    lines += ['', 'pages merged after each pass (mainline: most of all rounds, ours: least)']
    for row in yield_table:
        lines.append(f'  {row["case"]:16} never fewer: {VERDICT[row["reached"]]}')
        if any(row['mainline']) or any(row['ours']):
            lines += [f'    {side:9} {short(row[side])}' for side in SIDES]
    lines += ['', f'medians of {rounds} rounds; mainline against itself: ' +
              ', '.join(f'{ratio:.2f}x' for ratio in noise)]
    lines.append(f'held from boot on, more than mainline: {boot_kib:g} KiB (in no row above)')
    lines += DISTORTIONS
    return '\n'.join(lines) + '\n'


def svg(table):
    """Bars of mainline / ours on a logarithmic scale, with the goals that are ratios."""
    rows = [row for row in table if row['ratio']]
    left, width, height = 290, 560, 24
    decades = 3.0

    def x_of(ratio):
        from math import log10
        return left + max(0.0, min(1.0, (log10(ratio) + 1) / decades)) * width

    total = height * len(rows) + 70
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" '
             f'height="{total}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="10" y="20" font-size="14">mainline / ours: to the right is better; '
             'grey mark: the goal</text>']
    for tick in (0.1, 0.3, 1, 3, 10, 30, 100):
        x = x_of(tick)
        colour = '#444' if tick == 1 else '#ddd'
        parts.append(f'<line x1="{x:.1f}" y1="32" x2="{x:.1f}" y2="{total - 28}" '
                     f'stroke="{colour}"/><text x="{x:.1f}" y="{total - 12}" '
                     f'text-anchor="middle">{tick:g}x</text>')
    for index, row in enumerate(rows):
        y = 38 + index * height
        start, end = sorted((x_of(1), x_of(row['ratio'])))
        colour = {True: '#2a7', False: '#c43', None: '#58a'}[row['reached']]
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{row["what"]}</text>'
                     f'<rect x="{start:.1f}" y="{y + 2}" width="{max(end - start, 1):.1f}" '
                     f'height="{height - 8}" fill="{colour}"/>'
                     f'<text x="{end + 5:.1f}" y="{y + 14}">{row["ratio"]:.2f}</text>')
        if row['goal'].endswith('x less'):
            x = x_of(float(row['goal'].split()[1].rstrip('x')))
            parts.append(f'<line x1="{x:.1f}" y1="{y - 1}" x2="{x:.1f}" y2="{y + height - 3}" '
                         'stroke="#666" stroke-width="3"/>')
    return '\n'.join(parts + ['</svg>']) + '\n'


def write(name, text):
    with open(os.path.join(OUT, name), 'w') as file:
        file.write(text)


def chosen(names):
    """The rows and the cases that these names ask for; no names: all."""
    known = [row[0] for row in ROWS] + [GROWTH[0], YIELD, LOCKS]
    for name in names:
        if name not in known:
            raise BenchError(f'no row {name}; there are: {" ".join(known)}')
    wanted = set(names)
    if GROWTH[0] in wanted:
        wanted |= set(GROWTH[3])
    rows = [row for row in ROWS if not names or row[0] in wanted]
    cases = {row[3] for row in rows}
    if not names or YIELD in wanted:
        cases.update(YIELD_CASES)
    if not names or LOCKS in wanted:
        cases.update(LOCKS_CASES)
    return rows, [case for case in (*CASES, *LOCKS_CASES) if case in cases]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--rows', default='')
    parser.add_argument('--row', action='append', default=[])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--side', choices=SIDES)
    parser.add_argument('--perf')
    parser.add_argument('--list', action='store_true')
    options = parser.parse_args()
    if options.list:
        for name, what, *_ in ROWS + (GROWTH, (YIELD, 'pages merged in further workloads'),
                                      (LOCKS, 'longest holds of locks')):
            print(f'{name:16} {what}')
        return
    rows, cases = chosen(options.rows.split() + options.row)
    if options.side:
        for case in cases:
            result = run_case(options.side, case, options.perf)
            if case in LOCKS_CASES:
                print(f'== {options.side}, {case}: {result["merged"]} merged, {result["locks"]}')
                continue
            print(f'== {options.side}, {case}: {result["pages"]} pages')
            print_passes(result)
            for name, what, unit, of_case, value, _ in rows:
                if of_case == case:
                    print(f'{what}: {format_number(value(result))} {unit}')
        return
    results, noise = run_rounds(cases, options.rounds, SIDES)
    locks = lock_holds({case: results[case] for case in cases if case in LOCKS_CASES})
    results = {case: runs for case, runs in results.items() if case in CASES}
    table, yield_table = evaluate(rows, results), yields(results)
    write('results.json', json.dumps({'rows': table, 'yield': yield_table, 'noise': noise,
                                      'rounds': options.rounds, 'locks': locks,
                                      'raw': results}, indent=1))
    write('results.svg', svg(table))
    text = report_locks(locks) if locks else ''
    if results:
        text = report(table, yield_table, noise, options.rounds, boot_memory(results)) + text
    write('table.txt', text)
    print(text, end='')


if __name__ == '__main__':
    try:
        main()
    except BenchError as error:
        sys.exit(f'bench: {error}')
