//! The path of an entry: literal segments, and segments that are parameters. Pure.

use std::fmt;

/// A path template such as `/token/driver/{vehicleId}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

impl Path {
    /// Reads a template: `/` before every segment, each of letters, digits, `.`, `_`, `~` and `-`, or `{name}` as a whole.
    ///
    /// # Errors
    /// What is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let want = "want a path such as /token/driver/{vehicleId}: segments of letters, digits, '.', '_', '~' and '-', or \
            {name} as a whole";
        let rest = text.strip_prefix('/').filter(|_| text.len() <= MOST_BYTES).ok_or(want)?;
        let segments: Option<Vec<Segment>> = rest.split('/').map(segment).collect();
        let path = Self { segments: segments.ok_or(want)? };
        let names: Vec<&str> = path.parameters().collect();
        if names.iter().enumerate().any(|(index, name)| names[..index].contains(name)) {
            return Err("a parameter that is given twice, want each once".to_owned());
        }
        Ok(path)
    }

    /// `/v1/tokens/NAME`.
    pub fn of_name(name: &str) -> Self {
        let segments = ["v1", "tokens", name].map(|text| Segment::Literal(text.to_owned()));
        Self { segments: segments.into() }
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether one request could mean both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            _ => true,
        };
        self.segments.len() == other.segments.len() && self.segments.iter().zip(&other.segments).all(same)
    }

    /// The parameters that the path of a request gives, still encoded; `None` when it is not of this template. Literal
    /// segments are compared byte for byte: another spelling is another path.
    pub fn taken<'a>(&'a self, asked: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut taken = Vec::new();
        let mut given = asked.strip_prefix('/')?.split('/');
        for segment in &self.segments {
            let part = given.next()?;
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => taken.push((name.as_str(), part)),
            }
        }
        given.next().is_none().then_some(taken)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Parameter(name) => write!(f, "/{{{name}}}"),
        })
    }
}

fn segment(text: &str) -> Option<Segment> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        return ((1..=63).contains(&name.len()) && name.bytes().all(legal))
            .then(|| Segment::Parameter(name.to_owned()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    // Clients take dots out of a path before they send it.
    let is_good = !text.is_empty() && text.bytes().all(legal) && text != "." && text != "..";
    is_good.then(|| Segment::Literal(text.to_owned()))
}

const MOST_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_segments_and_whole_parameters() {
        for text in ["/token/driver/{vehicleId}", "/a", "/{a}", "/{a}/{b}/c", "/v1/a.b_c~d-e", "/..."] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
        let long = format!("/{}", "a".repeat(256));
        for text in [
            "",
            "/",
            "a",
            "a/b",
            "/a/",
            "//a",
            "/a//b",
            "/{}",
            "/{a",
            "/a}",
            "/{a}b",
            "/x{a}",
            "/{a-b}",
            "/a b",
            "/ä",
            "/a?b",
            "/a#b",
            "/%41",
            "/.",
            "/../a",
            "/a/./b",
            "/{a}/{a}",
            "/{a}/b/{a}",
            &long,
        ] {
            assert!(Path::parse(text).unwrap_err().contains("want"), "{text}");
        }
        assert_eq!(Path::of_name("server").to_string(), "/v1/tokens/server");
    }

    #[test]
    fn a_request_is_of_one_template_or_of_none() {
        let path = |text| Path::parse(text).unwrap();
        for (template, asked, taken) in [
            ("/token/{v}", "/token/a", Some(vec![("v", "a")])),
            ("/token/{v}", "/token/", Some(vec![("v", "")])),
            ("/token/{v}", "/token/%2A", Some(vec![("v", "%2A")])),
            ("/token/{v}/{w}", "/token/a/b", Some(vec![("v", "a"), ("w", "b")])),
            ("/token/{v}", "/token", None),
            ("/token/{v}", "/token/a/", None),
            ("/token/{v}", "/token/a/b", None),
            ("/token/{v}", "/Token/a", None),
            ("/token/{v}", "/%74oken/a", None),
            ("/token/{v}", "//token/a", None),
            ("/token/{v}", "/token//a", None),
            ("/token/{v}", "token/a", None),
            ("/token/{v}", "", None),
            ("/a", "/a", Some(vec![])),
            ("/a", "/a/", None),
            ("/a", "/b", None),
        ] {
            assert_eq!(path(template).taken(asked), taken, "{template} {asked}");
        }
    }

    #[test]
    fn two_templates_overlap_where_one_request_could_mean_both() {
        for (one, other, overlap) in [
            ("/a", "/a", true),
            ("/a", "/b", false),
            ("/a", "/a/b", false),
            ("/a/{v}", "/a/{w}", true),
            ("/a/{v}", "/a/b", true),
            ("/a/{v}", "/b/{v}", false),
            ("/{v}/b", "/a/{w}", true),
            ("/{v}/b", "/{v}/c", false),
            ("/{v}", "/v1/tokens/a", false),
        ] {
            let (one, other) = (Path::parse(one).unwrap(), Path::parse(other).unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlap, overlap), "{one} {other}");
        }
    }
}
