//! Prefix codes of bounded length.

/// Code, its bits in the order of deflate, and length of each symbol.
pub(super) struct Code<const N: usize>(pub(super) [(u32, u32); N]);

impl<const N: usize> Code<N> {
    /// The canonical one of these lengths (RFC 1951, 3.2.2).
    pub(super) fn of(lengths: &[u8; N]) -> Self {
        let mut next = [0_u32; 16];
        for length in lengths {
            next[usize::from(*length)] += 1;
        }
        next[0] = 0;
        let mut code = 0;
        for count in &mut next {
            (*count, code) = (code, (code + *count) << 1);
        }
        // What `next` has now are the codes of one bit less, shifted: the first of each length.
        let mut all = [(0, 0); N];
        for (slot, length) in all.iter_mut().zip(lengths) {
            let length = u32::from(*length);
            if length > 0 {
                let code = &mut next[length as usize];
                *slot = (code.reverse_bits() >> (32 - length), length);
                *code += 1;
            }
        }
        Self(all)
    }
}

/// The lengths of an optimal code for symbols that come so often, then shortened to `most` bits. A symbol that never comes has none; there are always
/// two that have one, since some readers take no code of a single symbol.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], most: usize) -> [u8; N] {
    let mut used: Vec<(u32, usize)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(symbol, count)| (*count, symbol))
        .collect();
    let unused = counts.iter().enumerate().filter(|(_, count)| **count == 0);
    let missing = 2_usize.saturating_sub(used.len());
    used.extend(unused.take(missing).map(|(symbol, _)| (1, symbol)));
    used.sort_unstable();
    let mut of_length = depths(&used);
    limit(&mut of_length, most);
    // The rarest get the longest.
    let mut all = [0; N];
    let mut symbols = used.iter();
    for (length, count) in of_length.iter().enumerate().rev() {
        for (_, symbol) in symbols.by_ref().take(*count) {
            all[*symbol] = u8::try_from(length).unwrap_or(0);
        }
    }
    all
}

/// How many symbols have each length in Huffman's tree, of counts in rising order.
fn depths(used: &[(u32, usize)]) -> [usize; 64] {
    let leaves = used.len();
    // Leaves, then the nodes in the order of their making, which is that of their weights.
    let mut weights: Vec<u64> = used.iter().map(|(count, _)| u64::from(*count)).collect();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut node) = (0, leaves);
    for made in leaves..2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            // A leaf first where both weigh the same: that keeps the tree flat.
            let from = if node >= made || (leaf < leaves && weights[leaf] <= weights[node]) {
                &mut leaf
            } else {
                &mut node
            };
            weight += weights[*from];
            parents[*from] = made;
            *from += 1;
        }
        weights.push(weight);
    }
    let mut depth = vec![0_usize; 2 * leaves - 1];
    let mut of_length = [0; 64];
    for index in (0..2 * leaves - 2).rev() {
        depth[index] = depth[parents[index]] + 1;
        if index < leaves {
            of_length[depth[index].min(63)] += 1;
        }
    }
    of_length
}

/// Takes what is longer than `most` down to it, and makes room for that by lengthening the next shorter ones.
fn limit(of_length: &mut [usize; 64], most: usize) {
    let over: usize = of_length[most + 1..].iter().sum();
    of_length[most + 1..].fill(0);
    of_length[most] += over;
    let room = 1_usize << most;
    let taken = |of_length: &[usize; 64]| -> usize {
        (1..=most)
            .map(|length| of_length[length] << (most - length))
            .sum()
    };
    // Each turn splits the deepest code above the last row and hangs one of the last row beside it, which frees one place of the last row.
    for _ in room..taken(of_length) {
        let Some(length) = (1..most).rev().find(|length| of_length[*length] > 0) else {
            return;
        };
        of_length[most] -= 1;
        of_length[length] -= 1;
        of_length[length + 1] += 2;
    }
}
