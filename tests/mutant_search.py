"""Mutants of training and search: the gradient of a convolution, and what the search has beyond the paper's evolution. See
mutant_table.py."""

# ruff: noqa: E501  broken lines stand here as they stand there

from mutant_table import CORE, SEARCH, Mutant

SEARCHES = [
    # The gradient of a wide depth-wise convolution.
    Mutant(CORE + "nn/convolution.py", "left = padding[1] - first", "left = padding[1]", "test_convolution"),
    Mutant(CORE + "nn/convolution.py", "top, bottom = padding[0], rows", "top, bottom = 0, rows", "test_convolution"),
    Mutant(
        CORE + "nn/convolution.py",
        "(*range(0, kw - COLUMNS, COLUMNS), kw - COLUMNS)",
        "range(0, kw - COLUMNS + 1, COLUMNS)",
        "test_convolution",
    ),
    Mutant(
        CORE + "nn/convolution.py",
        "gradient.sum((0, 2, 3)) if of_bias",
        "gradient.mean((0, 2, 3)) if of_bias",
        "test_convolution",
    ),
    # The sieve: scores predicted before they are evaluated.
    Mutant(
        SEARCH + "predictor.py",
        "int(rest[0][1:]) < candidate",
        "int(rest[0][1:]) <= candidate",
        "test_predictor::test_the_features_are_those_of_the_network",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "best = found[:half] + ordered(found[half:])",
        "best = found",
        "test_predictor::test_a_generation_keeps_what_is_predicted_best",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "np.argsort(-expected, kind",
        "np.argsort(expected, kind",
        "test_predictor::test_it_finds_better_networks_with_as_many_evaluations",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "self._seen -= {self.space.spec(p.candidate) for p in best[self.population :]}",
        "pass",
        "test_predictor::test_cut_anywhere_it_ends_the_same",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "known, first = sorted(scored, key=lambda p: p.index),",
        "known, first = scored,",
        "test_predictor::test_cut_anywhere_it_ends_the_same",
        "a ridge regression forgets the order of what it learns, and its answers are rounded",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "for p in known if p.score is not None]",
        "for p in known]",
        "test_predictor::test_a_candidate_that_failed_is_not_learnt_from",
        "`_ranked` has left those without a score out: the type checker asks",
    ),
    # A front instead of one best network, for several boards.
    Mutant(
        SEARCH + "objectives.py",
        "np.lexsort((np.array(index)[front], -distance))",
        "np.lexsort((np.array(index)[front], distance))",
        "test_objectives::test_the_order_is_nsga_iis",
    ),
    Mutant(
        SEARCH + "objectives.py",
        "np.lexsort((np.array(index)[front], -distance))",
        "np.lexsort((-np.array(index)[front], -distance))",
        "test_objectives::test_between_equals_the_earlier_is_first",
    ),
    Mutant(
        SEARCH + "objectives.py",
        "[-(p.score or 0.0),",
        "[(p.score or 0.0),",
        "test_objectives::test_parents_are_the_first_in_the_order",
    ),
    Mutant(
        SEARCH + "objectives.py",
        "plan(graph, found.schedule), self.boards.each[at].board",
        "plan(graph, found.schedule), self.boards.each[0].board",
        "test_objectives::test_what_a_network_costs test_objectives::test_the_front_in_milliseconds",
    ),
    Mutant(
        SEARCH + "objectives.py",
        "return len(self.each) - 1, self.each[-1].check(spec)",
        "return 0, self.each[-1].check(spec)",
        "test_objectives::test_a_network_is_planned_for_the_smallest_board_that_it_fits "
        "test_objectives::test_what_a_network_costs",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "share = at % len(random)",
        "share = 0",
        "test_objectives::test_each_board_has_its_share_of_every_generation",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "if not self.shares or self._passes(share, p))",
        "if True)",
        "test_objectives::test_each_board_has_its_share_of_every_generation",
    ),
    # Slots, and trials that are lost.
    Mutant(
        SEARCH + "nni/tuner.py", "most = min(most, self._share())", "pass", "test_tuner::test_every_slot_gets_its_share"
    ),
    Mutant(
        SEARCH + "nni/tuner.py",
        "if index in self._pending:",
        "if False:",
        "test_tuner::test_a_lost_trial_costs_its_last_candidate_only",
    ),
    Mutant(
        SEARCH + "nni/tuner.py",
        "if self._paired and not success:",
        "if False:",
        "test_tuner::test_a_lost_trial_costs_its_last_candidate_only",
    ),
    Mutant(
        SEARCH + "nni/tuner.py",
        "min(self._requested - self._ended, most) - busy",
        "self._requested - self._ended",
        "test_tuner::test_a_successor_that_is_asked_for_early_is_no_other_slot",
    ),
    # The best scored again.
    Mutant(
        SEARCH + "run/rescore.py",
        "range(1, draws + 1)",
        "range(draws)",
        "test_report::test_the_best_are_scored_again",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "return -score, macs, sram, index",
        "return -score, -macs, sram, index",
        "test_history::test_of_equals_the_cheaper_wins",
    ),
    Mutant(
        SEARCH + "evolution.py",
        "score is not None and isfinite(score)",
        "score is not None",
        "test_history::test_a_score_that_is_no_number_is_a_failure",
    ),
    Mutant(
        SEARCH + "run/rescored.py",
        'key=lambda row: (row["macs"], row["sram"]',
        'key=lambda row: (-row["macs"], row["sram"]',
        "test_report::test_what_counts_as_equal",
    ),
    Mutant(
        SEARCH + "run/rescored.py",
        "<= CONFIDENCE * 2**0.5 * error]",
        "<= 0]",
        "test_report::test_what_counts_as_equal",
    ),
]
