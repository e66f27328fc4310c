//! Relations between packages: `a (>= 1), b | c:any`. Pure.

use std::cmp::Ordering;
use std::fmt;

use super::version::Version;

/// Of one field; the longest of a release has some hundred.
const MAX_RELATIONS: usize = 4096;

/// How a version must stand to the named one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Earlier,
    EarlierOrSame,
    Same,
    SameOrLater,
    Later,
}

/// One package that would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) name: String,
    /// `any`, or the name of an architecture.
    pub(crate) qualifier: Option<String>,
    pub(crate) version: Option<(Operator, Version)>,
}

/// What one comma ends: the first that can be had is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternatives(pub(crate) Vec<Relation>);

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            "<=" | "<" => Self::EarlierOrSame,
            "=" => Self::Same,
            ">=" | ">" => Self::SameOrLater,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrSame => order != Ordering::Greater,
            Self::Same => order == Ordering::Equal,
            Self::SameOrLater => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

impl Relation {
    /// Whether a real package of this version does.
    pub(crate) fn takes(&self, version: &Version) -> bool {
        self.version
            .as_ref()
            .is_none_or(|(operator, wanted)| operator.holds(version.order(wanted)))
    }

    /// Whether what a package provides does: without a version it does only where none is asked for.
    pub(crate) fn takes_provided(&self, version: Option<&Version>) -> bool {
        match (&self.version, version) {
            (None, _) => true,
            (Some(_), Some(version)) => self.takes(version),
            (Some(_), None) => false,
        }
    }

    /// A package of this architecture; another one's are in no index that is read.
    pub(crate) fn is_for(&self, architecture: &str) -> bool {
        self.qualifier
            .as_deref()
            .is_none_or(|wanted| wanted == "any" || wanted == architecture)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let bad = |problem: &str| Err(format!("has the relation `{}`, {problem}", shown(text)));
        let (name, rest) = match text.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest)),
            None => (text, None),
        };
        let (name, qualifier) = match name.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (name, None),
        };
        if !is_name(name) || qualifier.is_some_and(|word| !is_name(word)) {
            return bad("which names no package");
        }
        let version = match rest {
            None => None,
            Some(rest) => {
                let Some(inner) = rest.strip_suffix(')') else {
                    return bad("which does not end");
                };
                let inner = inner.trim();
                let end = inner.find(|c| !"<>=".contains(c)).unwrap_or(inner.len());
                let (operator, version) = inner.split_at(end);
                let Some(operator) = Operator::parse(operator) else {
                    return bad("which compares in no known way");
                };
                match Version::parse(version.trim()) {
                    Ok(version) => Some((operator, version)),
                    Err(_) => return bad("whose version is none"),
                }
            }
        };
        Ok(Self {
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            version,
        })
    }
}

/// All relations of a field.
///
/// # Errors
/// The first that is none.
pub(crate) fn parse(field: &str) -> Result<Vec<Alternatives>, String> {
    let mut all = Vec::new();
    let mut count = 0;
    // A comma at the end is allowed.
    for group in field.split(',').filter(|group| !group.trim().is_empty()) {
        let relations: Vec<Relation> = group
            .split('|')
            .map(Relation::parse)
            .collect::<Result<_, _>>()?;
        count += relations.len();
        if count > MAX_RELATIONS {
            return Err(format!(
                "has more than {MAX_RELATIONS} relations in a field"
            ));
        }
        all.push(Alternatives(relations));
    }
    Ok(all)
}

/// Policy's form of a package's name, which is a harmless file name too. Names of architectures are of the same form.
pub(crate) fn is_name(text: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    (1..=128).contains(&text.len())
        && text.bytes().all(legal)
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrSame => "<=",
            Self::Same => "=",
            Self::SameOrLater => ">=",
            Self::Later => ">>",
        })
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(f, " ({operator} {version})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Alternatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, relation) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" | ")?;
            }
            relation.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_as_they_are_written() {
        for (text, want) in [
            ("libc6 (>= 2.36), zlib1g", "libc6 (>= 2.36); zlib1g"),
            ("a | b (<< 2) | c:any,", "a | b (<< 2) | c:any"),
            ("a(=1.0-1)\n, b:amd64 (<=1)", "a (= 1.0-1); b:amd64 (<= 1)"),
            ("old (> 1)", "old (>= 1)"),
            ("", ""),
        ] {
            let all: Vec<String> = parse(text)
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(all.join("; "), want, "{text}");
        }
        for text in [
            "a (>= ",
            "a (1)",
            "a (~ 1)",
            "A",
            "a b",
            "../a",
            "aa (>= x)",
            "aa |",
            "aa [amd64]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_must_stand_as_it_is_said() {
        let version = |text: &str| Version::parse(text).unwrap();
        for (relation, real, provided) in [
            ("aa", true, true),
            ("aa (>= 2)", true, true),
            ("aa (<< 2)", false, false),
            ("aa (= 2)", true, true),
            ("aa (>> 2)", false, false),
        ] {
            let relation = Relation::parse(relation).unwrap();
            assert_eq!(relation.takes(&version("2")), real, "{relation}");
            assert_eq!(
                relation.takes_provided(Some(&version("2"))),
                provided,
                "{relation}"
            );
            assert_eq!(
                relation.takes_provided(None),
                relation.version.is_none(),
                "{relation}"
            );
        }
    }
}
