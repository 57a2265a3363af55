"""The mistakes, one each: a text of one file, what it becomes, and the tests that must fail."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One mistake."""

    name: str
    path: str
    old: str
    """stands in the file exactly once"""
    new: str
    tests: tuple[str, ...]
    """pytest node ids; at least one of them must fail"""


def _itnas(file, test, choice=""):
    return f"tests/itnas/{file}.py::{test}{choice}"


FREEZING = _itnas("test_search_oracle", "test_a_diverged_replica_is_frozen_where_it_was")
EPOCHS = _itnas("test_search_oracle", "test_epochs_follow_torchs_cosine")
PIECES = _itnas("test_search_oracle", "test_a_batch_of_several_pieces_is_one_batch")
PLAIN = _itnas("test_engine", "test_losses_and_gradients_agree_with_the_plain_form")
TWENTY = _itnas(
    "test_engine", "test_twenty_steps_with_unequal_rates_clipping_and_a_diverged_replica"
)
FORMULA = _itnas("test_dependence", "test_agrees_with_the_formulas_and_every_row_is_a_distribution")
THREADS = _itnas("test_threads", "test_bits_do_not_depend_on_the_number_of_threads")
TRIALS, KILLED = "tests/study/test_trials_of_tuning.py", "tests/study/test_killed_trials.py"
RACING = "tests/study/test_racing.py"
CONFIRMING, JUDGING = "tests/study/test_confirmation.py", "tests/analysis/test_trials.py"
WINOGRAD = "tests/itnas/test_winograd.py"
EXTENDING = "tests/itnas/test_extending.py"

MUTATIONS = [
    # -- the search ---------------------------------------------------------------------------
    Mutation(
        "diverged-in-the-weight-step-goes-on", "itnas/method/bilevel.py",
        "        self.alive &= losses.isfinite()\n        self.weight_optimizer.step(",
        "        self.weight_optimizer.step(", (f"{FREEZING}[weights-torch]",),
    ),
    Mutation(
        "diverged-in-the-architecture-step-goes-on", "itnas/method/bilevel.py",
        "        self.alive &= losses.isfinite()\n        usable =", "        usable =",
        (f"{FREEZING}[architecture-torch]",),
    ),
    Mutation(
        "weights-of-diverged-replicas-move", "itnas/engine/optimizers.py",
        "        torch.where(kept, moved, flat, out=flat)", "        flat.copy_(moved)",
        (f"{FREEZING}[weights-torch]",),
    ),
    Mutation(
        "architecture-of-diverged-replicas-moves", "itnas/engine/optimizers.py",
        "        torch.where(kept, self.flat - step, self.flat, out=self.flat)",
        "        self.flat.sub_(step)", (f"{FREEZING}[architecture-torch]",),
    ),
    Mutation(
        "weights-rate-is-not-annealed", "itnas/method/bilevel.py",
        "set_rates([_annealed(s, epoch) for s in self.searches])",
        "set_rates([s.weights_lr for s in self.searches])", (f"{EPOCHS}[torch-False]",),
    ),
    Mutation(
        "annealed-one-epoch-late", "itnas/method/bilevel.py",
        "math.cos(math.pi * epoch / search.epochs)",
        "math.cos(math.pi * max(epoch - 1, 0) / search.epochs)", (f"{EPOCHS}[torch-False]",),
    ),
    Mutation(
        "every-epoch-in-one-order", "itnas/data/batches.py",
        'stream(seed, "order", part, epoch)', 'stream(seed, "order", part)',
        (_itnas("test_search_oracle", "test_every_epoch_has_an_order_of_its_own"),),
    ),
    Mutation(
        "clipped-by-the-norm-of-the-pack", "itnas/engine/optimizers.py",
        "norm = store.squared_norms(gradient).sqrt()",
        "norm = store.squared_norms(gradient).sum().sqrt().expand(len(alive))",
        (f"{TWENTY}[nas-bench-201]",),
    ),
    Mutation(
        "nesterov-without-the-gradient", "itnas/engine/optimizers.py",
        "            direction = gradient + self.momentum * velocity\n        moved",
        "            direction = self.momentum * velocity\n        moved",
        (f"{EPOCHS}[torch-True]",),
    ),
    Mutation(
        "penalty-of-a-on-T", "itnas/engine/replicas.py",
        'of_a = name == "architecture_lr"', "of_a = True", (f"{TWENTY}[nas-bench-201]",),
    ),
    # -- half precision -----------------------------------------------------------------------
    Mutation(
        "float16-architecture-not-unscaled", "itnas/engine/pack.py",
        "gradients = [g / self.scale[:, None] for g in gradients]", "pass",
        (_itnas("test_engine", "test_float16_gradients_are_unscaled_once"),),
    ),
    Mutation(
        "float16-weights-not-unscaled", "itnas/engine/pack.py",
        "flat = flat / self.store.spread(self.scale)", "pass",
        (_itnas("test_engine", "test_float16_gradients_are_unscaled_once"),),
    ),
    Mutation(
        "float16-overflow-keeps-the-scale", "itnas/engine/pack.py",
        "torch.where(grown, 2.0, 1.0), 0.5)", "torch.where(grown, 2.0, 1.0), 1.0)",
        (_itnas("test_engine", "test_float16_halves_its_scale_where_the_gradient_of_the_weights_"
                "overflows"),),
    ),
    Mutation(
        "p-is-rounded", "itnas/engine/groups/sums.py",
        "        return routing @ maps.to(routing.dtype)",
        "        return (routing.to(maps.dtype) @ maps).to(routing.dtype)",
        (_itnas("test_precision", "test_a_small_change_of_p_changes_the_loss"),),
    ),
    # -- the dependence -----------------------------------------------------------------------
    Mutation(
        "placebo-sees-its-predecessors", "itnas/method/dependence.py",
        "transition([torch.full_like(p, 1 / p.shape[-1]) for p in before], T, attention)",
        "transition(before, T, attention)",
        (_itnas("test_dependence", "test_placebo_has_the_parameters_of_transition_and_nothing_"
                "flows"),),
    ),
    Mutation(
        "own-weight-the-other-way-round", "itnas/method/dependence.py",
        "share * p[e] + (1 - share) * p_e", "(1 - share) * p[e] + share * p_e", (FORMULA,),
    ),
    Mutation(
        "predecessors-always-hear", "itnas/method/dependence.py",
        "p[q].detach() if self.settings.stop_gradient else p[q]", "p[q]",
        (_itnas("test_dependence", "test_stop_gradient_decides_whether_predecessors_hear_of_inner_"
                "edges"),),
    ),
    Mutation(
        "temperature-ignored", "itnas/method/dependence.py",
        "            logits = logits / self.settings.temperature", "            pass", (FORMULA,),
    ),
    Mutation(
        "content-not-scaled", "itnas/method/dependence.py",
        "tuple(len(o) ** -0.5 for o in lists)", "tuple(1.0 for o in lists)", (FORMULA,),
    ),
    # -- the engine ---------------------------------------------------------------------------
    Mutation(
        "weight-of-another-operation", "itnas/engine/plan/rounds.py",
        "self.cell.edges[e].operations.index(m.operation)",
        "(len(self.cell.edges[e].operations) - 1)", (f"{PLAIN}[nas-bench-201-transition0-1]",),
    ),
    Mutation(
        "odd-pixels-are-even", "itnas/engine/groups/grouped.py",
        "self.convolution(x[:, :, 1:, 1:], odd, 2)", "self.convolution(x, odd, 2)",
        (f"{PLAIN}[s2-transition0-1]",),
    ),
    Mutation(
        "general-operations-share-a-replica", "itnas/engine/groups/grouped.py",
        "{name: v[k] for name, v in own.items()}", "{name: v[0] for name, v in own.items()}",
        (EXTENDING,),
    ),
    Mutation(
        "blocks-mixed-up", "itnas/engine/groups/convolution.py",
        "        return joined(parts)", "        return joined(parts[::-1])",
        (_itnas("test_threads", "test_convolutions_in_blocks_are_convolutions"),),
    ),
    Mutation(
        "torch-keeps-its-threads", "itnas/engine/threads.py",
        "        torch.set_num_threads(1)\n", "",
        (_itnas("test_threads", "test_tasks_run_once_each_with_torch_on_one_thread"),),
    ),
    Mutation(
        "a-graph-of-noise", "itnas/engine/graphs.py",
        "    if engine.graphs and", "    if False and",
        (_itnas("test_graphs", "test_graphs_are_refused_where_the_host_draws_noise"),),
    ),
    Mutation(
        "memory-of-one-step", "itnas/engine/memory.py",
        "        _, _, gradient = engine.weight_gradient(*batches[1], p)",
        "        gradient = torch.zeros_like(engine.store.flat)",
        (_itnas("test_memory", "test_the_estimate_is_the_peak_of_both_steps"),),
    ),
    # -- the kernels --------------------------------------------------------------------------
    Mutation(
        "images-mixed-up", "itnas/kernels/cpp/winograd.h",
        "start = (image + q / rows) * pixels", "start = image * pixels", (WINOGRAD,),
    ),
    Mutation(
        "last-tile-left-out-of-the-weights", "itnas/kernels/cpp/winograd.h",
        "c_out, tiles, c_in,", "c_out, tiles - 1, c_in,",
        (f"{PIECES}[nas-bench-201-16-compiled]",),
    ),
    Mutation(
        "all-inputs-were-positive", "itnas/kernels/cpp/winograd.h",
        "(r > zero ? d : zero * r)", "d", (f"{PIECES}[nas-bench-201-16-compiled]",),
    ),
    Mutation(
        "matrix-not-transposed", "itnas/kernels/cpp/winograd.h",
        "= matrices(true);", "= matrices(false);", (f"{PIECES}[nas-bench-201-16-compiled]",),
    ),
    Mutation(
        "blocks-added-as-they-come", "itnas/kernels/cpp/blocks.h",
        "T* of(Index block) { return values_.data() + block * size_; }",
        "T* of(Index block) { return values_.data() + (block > 0 ? 1 : 0) * size_; }",
        (THREADS,),
    ),
    Mutation(
        "kernel-not-flipped", "itnas/kernels/cpp/separable.h",
        "flipped[(taps - 1 - t) * c + n]", "flipped[t * c + n]",
        (f"{PLAIN}[s2-transition0-1]",),
    ),
    Mutation(
        "norm-without-its-slope", "itnas/kernels/cpp/norm.h",
        "b[n] = T(-weight * scale * slope);", "b[n] = T(0);", (f"{PLAIN}[s2-transition0-1]",),
    ),
    Mutation(
        "all-equal-maxima-take-it", "itnas/kernels/cpp/pools.h",
        "g = here ? zero : g;", "", (f"{PLAIN}[darts-transition0-1]",),
    ),
    Mutation(
        "means-by-nine", "itnas/kernels/cpp/pools.h",
        "T(Window(i, j, 1, padded_.height, padded_.width).count())", "T(9)",
        (f"{PLAIN}[nas-bench-201-transition0-1]",),
    ),
    Mutation(
        "gradient-of-undilated-taps",
        "itnas/kernels/cpp/depthwise.h",
        f"\n{24 * ' '}sum[a * K + e] += load<T, V>(from + a * D * row + e * D * c) * b;",
        f"\n{24 * ' '}sum[a * K + e] += load<T, V>(from + a * D * row + e * c) * b;",
        (f"{PLAIN}[darts-transition0-1]",),
    ),
    Mutation(
        "rows-of-undilated-taps",
        "itnas/kernels/cpp/depthwise.h",
        "(i * D + r) * row",
        "(i + r) * row",
        (f"{PLAIN}[darts-transition0-1]",),
    ),
    Mutation(
        "cache-of-any-processor",
        "itnas/kernels/build.py",
        "*(identifying_lines() if march == NATIVE else [march]),",
        "",
        ("tests/itnas/test_kernel_cache.py",),
    ),
    # -- tuning -------------------------------------------------------------------------------
    Mutation(
        "every-trial-goes-on", "study/tuning/racing.py",
        "mean / error)) >= self.chance", "mean / error)) >= 0", (RACING,),
    ),
    Mutation(
        "seeds-to-come-are-like-none-before", "study/tuning/racing.py",
        "(1 / n - 1 / self.all)", "(1 / n)", (RACING,),
    ),
    Mutation(
        "an-infeasible-trial-goes-on", "study/tuning/trials.py",
        "        if not judged.feasible:\n            return False\n", "", (TRIALS,),
    ),
    Mutation(
        "a-trial-of-two-seeds-is-the-incumbent", "study/tuning/trials.py",
        "ranked = self.ranked(whole=True)", "ranked = self.ranked()", (TRIALS, RACING),
    ),
    Mutation(
        "the-default-is-no-trial", "study/tuning/trials.py",
        "self.study.enqueue_trial(self.default)", "pass", (TRIALS, KILLED),
    ),
    Mutation(
        "one-seed-for-all-samplers", "study/tuning/trials.py",
        "self.sampler(self._next_number() if left is None else left.number)", "self.sampler(0)",
        (TRIALS,),
    ),
    Mutation(
        "what-was-left-is-forgotten", "study/tuning/trials.py",
        "                self._left.append(trial)", "                pass", (KILLED,),
    ),
    Mutation(
        "a-second-parameter-gets-the-first-ones-draw", "study/tuning/trials.py",
        "                _draw_again(self.study, trial, left)\n", "", (KILLED,),
    ),
    Mutation(
        "a-constraint-is-never-set", "study/tuning/trials.py",
        "if name not in frozen.constraints:", "if name in frozen.constraints:", (TRIALS,),
    ),
    Mutation(
        "a-diverged-run-counts-as-nothing", "analysis/statistics/trials.py",
        "    x = x[np.isfinite(x) & ~out]\n", "    x = np.where(out, 0.0, x)\n", (JUDGING,),
    ),
    Mutation(
        "a-penalty-is-a-reward", "analysis/statistics/trials.py",
        "float(x.mean()) - (penalty * error", "float(x.mean()) + (penalty * error", (JUDGING,),
    ),
    Mutation(
        "the-largest-mean-wins", "analysis/statistics/trials.py",
        "    means = shrunken(np.array([values[n] for n in numbers])).means\n",
        "    means = np.nanmean(np.array([values[n] for n in numbers]), axis=1)\n",
        (JUDGING, RACING),
    ),
    Mutation(
        "a-lead-among-all-trials", "analysis/statistics/trials.py",
        "if np.isfinite(v).sum() == most or n in (best, other)]", "]", (RACING,),
    ),
    Mutation(
        "better-without-an-interval", "study/tuning/confirm.py",
        "self.difference(one).low > 0", "self.difference(one).estimate > 0", (CONFIRMING,),
    ),
    Mutation(
        "better-though-runs-diverged", "study/tuning/confirm.py",
        "low > 0 and not self.diverged(one)", "low > 0", (CONFIRMING,),
    ),
    Mutation(
        "confirmed-on-the-seeds-that-chose", "study/tuning/plan.py",
        "        first = 1 + max(max(vars(one).values()) for one in self.seeds) + after",
        "        first = after", (CONFIRMING,),
    ),
    Mutation(
        "the-incumbent-is-best-whatever-was-found", "study/tuning/record.py",
        "if unknown or confirmed.better or", "if True or", (CONFIRMING,),
    ),
]  # fmt: skip
