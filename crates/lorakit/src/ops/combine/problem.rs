//! What a combination refuses.

use lorakit_tensor::problems;

use crate::error::one_or_many;

problems! {
    /// What a combination refuses.
    pub(crate) enum Problem {
        /// No adapters.
        Nothing = Usage, "no adapters were given; at least one must be";
        /// A rank for a method that has no choice.
        Rank { method: &'static str } = Usage / ReduceAfterwards,
            "`{method}` leaves no choice of the rank; `svd` and the methods in `_svd` do";
        /// A seed for a method without randomness.
        Seed { method: &'static str } = Usage / LeaveOutSeed,
            "`{method}` draws no random numbers, so it has no seed";
        /// A way to elect signs for a method that elects none.
        Majority { method: &'static str } = Usage / LeaveOutMajority,
            "`{method}` elects no signs, so there are no ways to do so";
        /// No density for a method that drops entries.
        NoDensity { method: &'static str } = Usage / KeepHalf,
            "`{method}` drops entries, and must be told the density: the share that it keeps";
        /// A density for a method that drops nothing.
        Density { method: &'static str } = Usage / LeaveOutDensity,
            "`{method}` drops no entries, so it has no density";
        /// A density that is not a share.
        DensityRange { density: f64 } = Usage / KeepHalf,
            "the density is {density}; it must be above 0 and at most 1";
        /// Factors of different ranks for a method that adds them, and has no counterpart for deltas.
        RanksDiffer { method: &'static str, modules: usize, of: usize } = Usage / CombineBySvd,
            "`{method}` combines factors entry by entry, and in {modules} of {of} modules their ranks differ; `svd` and \
             `cat` take any";
        /// The same for a method that has a counterpart for deltas.
        RanksDifferOfFactors { method: &'static str, modules: usize, of: usize, instead: &'static str }
            = Usage / CombineDeltas,
            "`{method}` combines factors entry by entry, and in {modules} of {of} modules their ranks differ; \
             `{instead}` combines deltas, and takes any";
        /// The output projection of `nn.MultiheadAttention`, to PEFT up to 0.21.2.
        AppliedTwice = Unmergeable / MergeInsteadOfCombining,
            "is applied twice by the PEFT that trained it, and a PEFT that loads the combination may apply it once";
        /// DoRA, whose magnitudes are not deltas.
        Dora { modules: usize, of: usize } = Unmergeable / MakePlainLora,
            "uses DoRA in {modules} of {of} modules, whose magnitudes do not add up; it can only be written alone and at \
             weight 1";
        /// Full deltas of parameters.
        FullDeltas { count: usize } = Inexpressible, "holds {}, which no method combines", one_or_many(*count, "full delta");
        /// An initialisation that took a part of the base away.
        Mutated { init: String } = MutatedBase,
            "was initialised by `{init}`, which changed the base, so its factors are not a delta on the base of the \
             others";
        /// Modules of the same path with different shapes.
        Shapes { modules: usize, of: usize } = Shape / AdaptersOfTwoBases,
            "{modules} of {of} modules have other shapes in one adapter than in another";
        /// Parameters that two adapters save with different values.
        Conflicts { parameters: usize } = Conflict / MergeInsteadOfCombining,
            "replace {} of the base by different values, which have no sum",
            one_or_many(*parameters, "parameter");
    }
}
