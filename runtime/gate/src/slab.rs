//! Things with numbers. A number that is used again comes with another generation, so that an event for what is gone finds nothing.

/// A place, and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    /// 24 bits, so that it fits into an event beside the rest.
    pub(crate) generation: u32,
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..)
            .zip(&self.places)
            .filter(|(_, (_, value))| value.is_some())
            .map(|(index, (generation, _))| Key {
                index,
                generation: *generation,
            })
            .collect()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            // Bounded by the limit of descriptors, far below 2^32.
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(value);
        Key {
            index,
            generation: *generation,
        }
    }

    pub(crate) fn at(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.places.get_mut(key.index as usize)?;
        if *generation == key.generation {
            value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, value) = self.places.get_mut(key.index as usize)?;
        if *generation != key.generation || value.is_none() {
            return None;
        }
        *generation = (*generation + 1) & 0xff_ffff;
        self.free.push(key.index);
        value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert_eq!(
            (slab.len(), slab.remove(a), slab.remove(a)),
            (2, Some("a"), None)
        );
        let c = slab.insert("c");
        assert_eq!(c.index, a.index);
        for (key, want) in [(a, None), (c, Some("c")), (b, Some("b"))] {
            assert_eq!(slab.at(key).copied(), want, "{key:?}");
        }
        assert_eq!((slab.remove(a), slab.len()), (None, 2));
    }
}
