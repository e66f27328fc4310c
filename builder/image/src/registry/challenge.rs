//! `WWW-Authenticate`: what a registry asks for before it answers. Pure; every byte is hostile.

/// Longer ones are nobody's.
const MAX_HEADER: usize = 8 << 10;
const MAX_PARAMETERS: usize = 32;

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    /// A scheme that is not known here.
    Other,
}

/// The challenges of one header, in order. What cannot be read ends the list.
#[must_use]
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    if header.len() > MAX_HEADER {
        return challenges;
    }
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let Some((scheme, after)) = token(rest) else {
            break;
        };
        let (parameters, after) = parameters(after);
        challenges.push(challenge(scheme, parameters));
        let next = after.trim_start_matches([' ', '\t', ',']);
        if next.len() == rest.len() || challenges.len() == MAX_PARAMETERS {
            break;
        }
        rest = next;
    }
    challenges
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Challenge {
    if scheme.eq_ignore_ascii_case("basic") {
        return Challenge::Basic;
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Challenge::Other;
    }
    let find = |wanted: &str| {
        parameters
            .iter()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value.clone())
    };
    match find("realm") {
        Some(realm) => Challenge::Bearer {
            realm,
            service: find("service"),
            scope: find("scope"),
        },
        None => Challenge::Other,
    }
}

/// `key=value` pairs up to the next scheme, and what is left.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    while found.len() < MAX_PARAMETERS {
        let at = rest.trim_start_matches([' ', '\t', ',']);
        let Some((key, after)) = token(at) else {
            break;
        };
        // Without `=` it is the next scheme.
        let Some(after) = after.trim_start().strip_prefix('=') else {
            break;
        };
        let Some((value, after)) = value(after.trim_start()) else {
            return (found, "");
        };
        found.push((key.to_ascii_lowercase(), value));
        rest = after;
    }
    (found, rest)
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_graphic() || "\"(),/:;<=>?@[\\]{}".contains(c))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_as_rfc_9110_has_them() {
        for (header, want) in [
            (
                "Bearer realm=\"https://auth.example.org/token\",service=\"r\",scope=\"repository:a:pull,push\"",
                vec![bearer(
                    "https://auth.example.org/token",
                    Some("r"),
                    Some("repository:a:pull,push"),
                )],
            ),
            ("Basic realm=\"Registry Realm\"", vec![Challenge::Basic]),
            (
                "Negotiate, bearer Realm=x , error=\"invalid_token\", Basic realm=\"a\\\"b\"",
                vec![Challenge::Other, bearer("x", None, None), Challenge::Basic],
            ),
            ("Bearer", vec![Challenge::Other]),
            ("Bearer realm=\"unterminated", vec![Challenge::Other]),
            ("", vec![]),
            (",,, ", vec![]),
            ("=", vec![]),
        ] {
            assert_eq!(parse_challenges(header), want, "{header}");
        }
        assert!(parse_challenges(&"Basic ".repeat(9000)).is_empty());
    }
}
