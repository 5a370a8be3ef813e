//! Modules arranged by layer: rows are kinds of module, columns are layers.

use std::collections::{BTreeMap, BTreeSet};

use crate::arch::names::usual_order;

/// The modules of one stack of layers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Grid {
    /// What precedes the layer number, e.g. `model.layers`.
    pub stem: String,
    /// Number of layers: up to the last adapted one, or all of the base's if that is known.
    pub layers: usize,
    /// One row for each kind of module, in the order they first appear.
    pub rows: Vec<GridRow>,
}

/// One kind of module in all layers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GridRow {
    /// The shortest ending of the path that tells it from the other rows, e.g. `q_proj` or `mlp.c_proj`.
    pub leaf: String,
    /// For each layer the modules of this kind, as positions in the list they came from. Usually one or none;
    /// many for single experts.
    pub cells: Vec<Vec<usize>>,
}

/// Layers beyond this are not drawn: a number in a hostile name must not size a table.
const MAX_LAYERS: usize = 4096;

/// A path taken apart at its layer number.
pub(super) struct Place<'a> {
    /// Before the number.
    pub stem: &'a str,
    /// The number.
    pub layer: u32,
    /// After it, other numbers replaced by `*`.
    pub suffix: String,
}

/// Where a module is; `None` if its path has no layer number.
pub(super) fn place(path: &str) -> Option<Place<'_>> {
    let mut start = 0;
    for component in path.split('.') {
        let end = start + component.len();
        if let Ok(layer) = component.parse::<u32>()
            && start > 0
            && end < path.len()
        {
            let general = |c| if str::parse::<u32>(c).is_ok() { "*" } else { c };
            let suffix = path[end + 1..].split('.').map(general).collect::<Vec<_>>().join(".");
            return Some(Place { stem: &path[..start - 1], layer, suffix });
        }
        start = end + 1;
    }
    None
}

/// Arranges `paths`; those without a layer are left out. `base_layers` is the depth of the base, where known.
pub(super) fn build(paths: &[&str], base_layers: Option<usize>) -> Vec<Grid> {
    let mut stacks: BTreeMap<&str, Vec<(usize, Place<'_>)>> = BTreeMap::new();
    for (index, path) in paths.iter().enumerate() {
        if let Some(place) = place(path).filter(|p| (p.layer as usize) < MAX_LAYERS) {
            stacks.entry(place.stem).or_default().push((index, place));
        }
    }
    // The configuration gives one depth; with several stacks it is not known which one it is for.
    let depth = base_layers.filter(|_| stacks.len() == 1).unwrap_or(0).min(MAX_LAYERS);
    stacks.into_iter().map(|(stem, places)| stack(stem, &places, depth)).collect()
}

fn stack(stem: &str, places: &[(usize, Place<'_>)], depth: usize) -> Grid {
    let layers = places.iter().map(|(_, p)| p.layer as usize + 1).max().unwrap_or(0).max(depth);
    let mut suffixes: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, place) in places {
        if seen.insert(place.suffix.as_str()) {
            suffixes.push(&place.suffix);
        }
    }
    suffixes.sort_by_key(|s| usual_order(s));
    let mut rows: Vec<GridRow> = Vec::with_capacity(suffixes.len());
    let leaves = leaves(&suffixes);
    let position: BTreeMap<&str, usize> = suffixes.iter().enumerate().map(|(i, s)| (*s, i)).collect();
    for leaf in leaves {
        rows.push(GridRow { leaf, cells: vec![Vec::new(); layers] });
    }
    for (index, place) in places {
        if let Some(row) = position.get(place.suffix.as_str()).and_then(|&i| rows.get_mut(i)) {
            row.cells[place.layer as usize].push(*index);
        }
    }
    Grid { stem: stem.to_string(), layers, rows }
}

/// For each of the distinct suffixes, the shortest ending on dot boundaries that no other one has.
pub(super) fn leaves(suffixes: &[&str]) -> Vec<String> {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    for suffix in suffixes {
        for end in endings(suffix) {
            *taken.entry(end).or_default() += 1;
        }
    }
    let telling =
        |end: &&str| !end.starts_with('*') && !end.starts_with("base_layer") && taken.get(end) == Some(&1);
    suffixes.iter().map(|s| endings(s).find(telling).unwrap_or(s).to_string()).collect()
}

/// `c`, `b.c`, `a.b.c`.
fn endings(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('.').map(|(i, _)| &path[i + 1..]).chain(std::iter::once(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns() {
        let paths = [
            "lm_head",
            "model.layers.0.attn.q_proj",
            "model.layers.0.mlp.up_proj",
            "model.layers.2.attn.q_proj",
        ];
        let grids = build(&paths, Some(4));
        let [grid] = grids.as_slice() else { panic!("{grids:?}") };
        assert_eq!((grid.stem.as_str(), grid.layers), ("model.layers", 4));
        let row = |leaf: &str, cells: [&[usize]; 4]| GridRow {
            leaf: leaf.into(),
            cells: cells.map(<[_]>::to_vec).to_vec(),
        };
        assert_eq!(grid.rows, [row("q_proj", [&[1], &[], &[3], &[]]), row("up_proj", [&[2], &[], &[], &[]])]);
    }

    #[test]
    fn equal_leaves_are_told_apart_and_experts_share_a_cell() {
        let paths = ["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.mlp.experts.0.w1", "h.0.mlp.experts.1.w1"];
        let grids = build(&paths, None);
        let leaves: Vec<&str> = grids[0].rows.iter().map(|r| r.leaf.as_str()).collect();
        assert_eq!(leaves, ["attn.c_proj", "mlp.c_proj", "w1"]);
        assert_eq!(grids[0].rows[2].cells, [vec![2, 3]]);
        let nested = build(&["l.0.mlp.experts.base_layer", "l.0.mlp.experts"], None);
        assert_eq!(nested[0].rows[0].leaf, "experts.base_layer");
    }

    #[test]
    fn a_huge_layer_number_is_not_drawn() {
        assert!(build(&["model.layers.4000000000.q_proj"], None).is_empty());
        assert!(place("lm_head").is_none() && place("0.q").is_none() && place("layers.3").is_none());
    }
}
