use super::super::{Loaded, Problem, Source, Sources, load};
use super::*;

const CREDENTIALS: &str = r"
credentials:
  - {name: default, serviceAccountKey: {path: /k}}
  - {name: drivers, signedJwt: {path: /k, preset: fleetEngineDriver}}
  - {name: server, signedJwt: {path: /k, preset: fleetEngineServer}}
  - {name: device, signedJwt: {path: /k, preset: iotDevice, audience: p, lifetime: 10m}}
  - {name: odd, signedJwt: {path: /k, audience: p, claims: {a: '{format}'}}}
  - {name: admin, serviceAccountKey: {path: /k, subject: a@b.example}}
";

fn entries(text: &str) -> Result<Loaded, Vec<Problem>> {
    let text = format!("{CREDENTIALS}tokens:\n{text}\n");
    load(&Sources { file: Some(Source { name: "f".to_owned(), text }), ..Sources::default() })
}

fn one(text: &str) -> Entry {
    let loaded = entries(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.settings.tokens.into_iter().next().unwrap()
}

#[test]
fn an_entry_needs_three_fields_and_the_rest_has_defaults() {
    let entry = one("  - {name: driver, credential: drivers, token: jwt}");
    assert_eq!(entry.path.to_string(), "/v1/tokens/driver");
    assert_eq!((entry.parameters, entry.want), (vec!["vehicleId".to_owned()], Want::Jwt(Parameters::none())));
    assert_eq!((entry.min_life.as_secs(), entry.json, entry.file), (900, Mapping::default(), None));
    assert_eq!(one("  - {name: d, credential: device, token: jwt}").min_life.as_secs(), 150);
    assert_eq!(one("  - {name: a, credential: default, token: access}").want, Want::Access);
    assert_eq!(one("  - {name: a, credential: default, token: selfSigned}").want, Want::SelfSigned);
    assert_eq!(one("  - {name: a, credential: default, token: id, audience: x}").want, Want::Id("x".into()));
    let file = one("  - {name: d, credential: device, token: jwt, file: {path: /t/d}}").file.unwrap();
    assert_eq!((file.mode, file.format), (0o440, FileFormat::Raw));
    let file =
        one("  - {name: d, credential: device, token: jwt, file: {path: /t/d, mode: '0640', format: json}}").file;
    assert_eq!(file.map(|file| (file.mode, file.format)), Some((0o640, FileFormat::Json)));
}

#[test]
fn every_mistake_is_told_where_it_is_with_what_is_accepted() {
    let driver = "  - {name: driver, credential: drivers, token: jwt";
    let device = "  - {name: device, credential: device, token: jwt";
    let second = format!("{driver}}}\n  - {{name: b, credential: server, token: jwt, path: /v1/tokens/driver}}");
    let crossing = format!("{driver}, path: '/t/{{vehicleId}}'}}\n{device}, path: /t/x}}");
    let same = format!("{driver}}}\n{driver}, path: /other}}");
    let files =
        format!("{device}, file: {{path: /t}}}}\n  - {{name: b, credential: server, token: jwt, file: {{path: /t}}}}");
    for (text, path, said) in [
        (format!("{driver}, pth: /a}}"), "tokens[0]", "unknown field 'pth', did you mean 'path'?"),
        ("  - {credential: drivers, token: jwt}".to_owned(), "tokens[0]", "missing field 'name'"),
        ("  - {name: a, token: jwt}".to_owned(), "tokens[0]", "missing field 'credential'"),
        ("  - {name: a, credential: drivers}".to_owned(), "tokens[0]", "missing field 'token'"),
        ("  - {name: a, credential: drivrs, token: jwt}".to_owned(), "tokens[0].credential", "unknown credential"),
        (
            "  - {name: a, credential: drivers, token: access}".to_owned(),
            "tokens[0].token",
            "a signedJwt gives no token",
        ),
        (
            "  - {name: a, credential: default, token: jwt}".to_owned(),
            "tokens[0].token",
            "a serviceAccountKey gives no",
        ),
        ("  - {name: a, credential: admin, token: selfSigned}".to_owned(), "tokens[0].token", "a self-signed token"),
        ("  - {name: a, credential: default, token: id}".to_owned(), "tokens[0]", "missing field 'audience'"),
        (format!("{driver}, audience: x}}"), "tokens[0].audience", "audience goes with token: id only"),
        (
            "  - {name: a, credential: odd, token: jwt}".to_owned(),
            "tokens[0].credential",
            "the credential has a parameter 'format'",
        ),
        (format!("{driver}, path: a}}"), "tokens[0].path", "want a path such as"),
        (
            format!("{driver}, path: '/t/{{vehicle}}'}}"),
            "tokens[0].path",
            "unknown parameter 'vehicle', did you mean 'vehicleId'?",
        ),
        (format!("{device}, path: '/t/{{a}}'}}"), "tokens[0].path", "unknown parameter 'a' (accepted: nothing)"),
        (second, "tokens[1].path", "its path /v1/tokens/driver overlaps that of 'driver'"),
        (crossing, "tokens[1].path", "its path /t/x overlaps that of 'driver' (/t/{vehicleId})"),
        (same, "tokens[1]", "a second entry named 'driver'"),
        (format!("{driver}, json: {{jwt: expiresAt}}}}"), "tokens[0].json", "no key for the token itself"),
        (format!("{driver}, json: {{}}}}"), "tokens[0].json", "no key for the token itself"),
        (
            format!("{driver}, json: {{jwt: token, b: expires}}}}"),
            "tokens[0].json[\"b\"]",
            "want one of token, tokenType",
        ),
        (format!("{driver}, minLife: 1h}}"), "tokens[0].minLife", "no token lives so long, want less than 3589s"),
        (format!("{driver}, minLife: 0s}}"), "tokens[0].minLife", "want a duration from 1s to 24h"),
        (format!("{device}, minLife: 589s}}"), "tokens[0].minLife", "no token lives so long, want less than 589s"),
        (format!("{driver}, file: {{path: /t}}}}"), "tokens[0].file", "the credential has parameters (vehicleId)"),
        (files, "tokens[1].file", "'device' has the same file"),
        (format!("{device}, file: {{}}}}"), "tokens[0].file", "missing field 'path'"),
        (format!("{device}, file: {{path: t}}}}"), "tokens[0].file.path", "want"),
        (format!("{device}, file: {{path: /t/}}}}"), "tokens[0].file.path", "want a file in full"),
        (format!("{device}, file: {{path: /t, mode: '0777'}}}}"), "tokens[0].file.mode", "want permissions in octal"),
        (format!("{device}, file: {{path: /t, mode: '0'}}}}"), "tokens[0].file.mode", "want permissions in octal"),
        (format!("{device}, file: {{path: /t, mode: '0040'}}}}"), "tokens[0].file.mode", "want permissions in octal"),
        (format!("{device}, file: {{path: /t, mode: rw}}}}"), "tokens[0].file.mode", "want permissions in octal"),
        (format!("{device}, file: {{path: /t, format: xml}}}}"), "tokens[0].file.format", "want raw or json"),
    ] {
        let problems = entries(&text).expect_err(&text);
        let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
        assert_eq!(problem.path, path, "{text}");
        assert!(problem.message.starts_with(said), "{text}: {}", problem.message);
        assert!(problem.at.is_some(), "{text}");
    }
}

#[test]
fn an_entry_that_nobody_can_ask_for_is_warned_about() {
    let off = |entry: &str| entries(&format!("{entry}\nlisteners: {{tokenApi: off}}")).unwrap().warnings.len();
    assert_eq!(off("  - {name: d, credential: device, token: jwt}"), 1);
    assert_eq!(off("  - {name: d, credential: device, token: jwt, file: {path: /t/d}}"), 0);
}
