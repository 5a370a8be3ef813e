//! Which documents an epoch has and in which order, packing, validation. Numbers are drawn by counters, so that each
//! depends on the seed and on what it is for, not on how many were drawn before.

use std::collections::{BTreeSet, HashMap};

use super::problem::Problem;
use super::{Data, Document, Text};
use crate::Result;
use crate::random::mixed;

/// What numbers are drawn for.
const OF_PHASE: u64 = 1;
const OF_ORDER: u64 = 2;
const OF_VALIDATION: u64 = 3;

/// A number that looks random, from a seed and a counter.
fn draw(seed: u64, counter: [u64; 4]) -> u64 {
    counter.into_iter().fold(mixed(seed), |state, part| mixed(state ^ part))
}

/// The documents of an epoch, which counts from 0, in the order in which they are trained.
///
/// A source with the weight 0.25 has a quarter of its documents in each epoch, and all of them once in four; with the
/// weight 2, each twice.
pub fn epoch(data: &Data, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> = Vec::new();
    for (source, weight) in data.sources.iter().map(|source| source.weight).enumerate() {
        let documents = data.documents.iter().enumerate().filter(|(_, document)| document.source == source);
        let mut drawn: Vec<(u64, usize)> =
            documents.map(|(at, _)| (draw(seed, [OF_PHASE, source as u64, at as u64, 0]), at)).collect();
        drawn.sort_unstable();
        let count = drawn.len() as f64;
        for (rank, (_, document)) in drawn.into_iter().enumerate() {
            // Documents fall due at even distances, so that epochs have equally many.
            let phase = (rank as f64 + 0.5) / count;
            let due = |epoch: u64| (epoch as f64 * weight + phase).floor();
            let times = (due(epoch + 1) - due(epoch)) as u64;
            let copy = |copy| (draw(seed, [OF_ORDER, epoch, document as u64, copy]), document);
            order.extend((0..times).map(copy));
        }
    }
    order.sort_unstable();
    order.into_iter().map(|(_, document)| document).collect()
}

/// Packs documents into as few sequences of at most `capacity` tokens as best-fit decreasing finds (Johnson 1973), in
/// O(n log n). Each sequence lists places in `lengths`, ascending; sequences are in the order of their first places, so
/// that what was shuffled stays shuffled. A document longer than the capacity is alone.
pub fn pack(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut decreasing: Vec<usize> = (0..lengths.len()).collect();
    decreasing.sort_by_key(|at| std::cmp::Reverse(lengths[*at]));
    let mut packed: Vec<Vec<usize>> = Vec::new();
    // Room that is left, and the sequence that has it.
    let mut room: BTreeSet<(usize, usize)> = BTreeSet::new();
    for document in decreasing {
        let length = lengths[document];
        match room.range((length, 0)..).next().copied() {
            Some((left, sequence)) => {
                room.remove(&(left, sequence));
                room.insert((left - length, sequence));
                packed[sequence].push(document);
            }
            None => {
                room.insert((capacity.saturating_sub(length), packed.len()));
                packed.push(vec![document]);
            }
        }
    }
    packed.iter_mut().for_each(|sequence| sequence.sort_unstable());
    packed.sort_unstable();
    packed
}

/// Documents one after another, as [`Batch`](crate::model::Batch) takes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gathered {
    /// The tokens of all documents.
    pub tokens: Vec<u32>,
    /// The length of each document.
    pub lengths: Vec<usize>,
    /// How much each token counts.
    pub weights: Vec<f32>,
}

/// Puts the documents of a sequence one after another.
pub fn gather(documents: &[Document], sequence: &[usize]) -> Gathered {
    let mut gathered = Gathered::default();
    for document in sequence.iter().map(|at| &documents[*at]) {
        gathered.tokens.extend(&document.tokens);
        gathered.lengths.push(document.tokens.len());
        gathered.weights.extend(&document.weights);
    }
    gathered
}

/// Takes a share of the rows out of `data`, for validation. Which rows depends on the seed; rows that are equal stay
/// together, so that none is on both sides. Rows of which nothing is left are not drawn.
///
/// # Errors
///
/// The share does not lie between 0 and 1, or one side would be empty.
pub fn hold_out(data: &mut Data, text: &Text, share: f64, seed: u64) -> Result<Data> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Problem::Share { found: share }.into());
    }
    // Equal rows, in the order of the draw.
    let mut groups: Vec<(u64, Vec<usize>)> = Vec::new();
    let mut known: HashMap<Vec<&[u32]>, usize> = HashMap::new();
    let (mut rest, mut place) = (&data.documents[..], (0, 0));
    for (at, row) in data.rows.iter().enumerate() {
        let documents;
        (documents, rest) = rest.split_at(row.documents);
        place = if place.0 == row.place.source { (place.0, place.1 + 1) } else { (row.place.source, 1) };
        if documents.is_empty() {
            continue;
        }
        let content = documents.iter().map(|document| &document.tokens[..]).collect();
        let group = *known.entry(content).or_insert_with(|| {
            let counter = [OF_VALIDATION, place.0 as u64, place.1, 0];
            groups.push((draw(seed, counter), Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(at);
    }
    let rows: usize = groups.iter().map(|(_, rows)| rows.len()).sum();
    let wanted = ((rows as f64 * share).round() as usize).max(1);
    groups.sort_unstable();
    let mut held = BTreeSet::new();
    for (_, rows) in groups {
        if held.len() >= wanted {
            break;
        }
        held.extend(rows);
    }
    if held.len() == rows {
        return Err(Problem::ShareOfFew { rows, share }.into());
    }
    let mut validation =
        Data { sources: data.sources.clone(), report: data.report.clone(), ..Data::default() };
    let mut documents = std::mem::take(&mut data.documents).into_iter();
    for (at, row) in std::mem::take(&mut data.rows).into_iter().enumerate() {
        let side = if held.contains(&at) { &mut validation } else { &mut *data };
        side.documents.extend(documents.by_ref().take(row.documents));
        side.rows.push(row);
    }
    data.count(text);
    validation.count(text);
    Ok(validation)
}
