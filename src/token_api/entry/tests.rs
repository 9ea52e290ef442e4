use super::*;

/// With one parameter in the path and one in the query.
fn entry() -> Entry {
    Entry {
        name: "driver".to_owned(),
        credential: CredentialName::new("drivers"),
        want: Want::Jwt(Parameters::none()),
        parameters: vec!["tripId".to_owned(), "vehicleId".to_owned()],
        path: Path::parse("/token/{vehicleId}").unwrap(),
        json: Mapping::default(),
        min_life: Duration::from_secs(900),
        file: None,
    }
}

/// What becomes of a request target.
fn asked(target: &str) -> Result<String, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let entries = [entry()];
    let (entry, in_path) = find(&entries, path).ok_or(Refusal::UnknownPath)?;
    let question = question(entry, &in_path, query)?;
    let form = if question.format == FileFormat::Raw { " raw" } else { "" };
    Ok(format!("{}{form}", question.parameters))
}

#[test]
fn every_parameter_is_given_once_in_path_or_query_and_nothing_else() {
    let good = "tripId=t1, vehicleId=v1";
    let long = "v".repeat(255);
    let too_long = "v".repeat(256);
    use Refusal as R;
    for (target, became) in [
        ("/token/v1?tripId=t1", Ok(good)),
        ("/token/v1?&tripId=t1&", Ok(good)),
        ("/token/v1?tripId=t1&format=raw", Ok("tripId=t1, vehicleId=v1 raw")),
        ("/token/v1?format=json&tripId=t1", Ok(good)),
        ("/token/v1?tripId=t1&vehicleId=v1", Ok(good)),
        ("/token/%761?tripId=%741", Ok(good)),
        ("/token/v%7E1?tripId=t.1_-~", Ok("tripId=t.1_-~, vehicleId=v~1")),
        (&format!("/token/{long}?tripId=t1"), Ok(&format!("tripId=t1, vehicleId={long}"))),
        ("/token?tripId=t1", Err(R::UnknownPath)),
        ("/token/v1/?tripId=t1", Err(R::UnknownPath)),
        ("/token/v1/w?tripId=t1", Err(R::UnknownPath)),
        ("/tokens/v1?tripId=t1", Err(R::UnknownPath)),
        ("/Token/v1?tripId=t1", Err(R::UnknownPath)),
        ("/v1/tokens/driver?tripId=t1&vehicleId=v1", Err(R::UnknownPath)),
        ("/token/v1", Err(R::MissingParameter)),
        ("/token/v1?", Err(R::MissingParameter)),
        ("/token/v1?format=raw", Err(R::MissingParameter)),
        ("/token/?tripId=t1", Err(R::MalformedParameter)),
        ("/token/*?tripId=t1", Err(R::MalformedParameter)),
        ("/token/%2A?tripId=t1", Err(R::MalformedParameter)),
        ("/token/%252A?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a%2Fb?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a%00?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a%?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a%4?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a%zz?tripId=t1", Err(R::MalformedParameter)),
        ("/token/%ff?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a b?tripId=t1", Err(R::MalformedParameter)),
        ("/token/a+b?tripId=t1", Err(R::MalformedParameter)),
        ("/token/{vehicleId}?tripId=t1", Err(R::MalformedParameter)),
        (&format!("/token/{too_long}?tripId=t1"), Err(R::MalformedParameter)),
        ("/token/v1?tripId=", Err(R::MalformedParameter)),
        ("/token/v1?tripId", Err(R::MalformedParameter)),
        ("/token/v1?tripId=*", Err(R::MalformedParameter)),
        ("/token/v1?tripId=a,b", Err(R::MalformedParameter)),
        ("/token/v1?tripId=a=b", Err(R::MalformedParameter)),
        ("/token/v1?tripId=t1%20", Err(R::MalformedParameter)),
        ("/token/v1?tripId=\"t1\"", Err(R::MalformedParameter)),
        ("/token/v1?tripId=t1&tripId=t1", Err(R::RepeatedParameter)),
        ("/token/v1?tripId=t1&tripId=t2", Err(R::RepeatedParameter)),
        ("/token/v1?tripId=t1&vehicleId=v1&vehicleId=v1", Err(R::RepeatedParameter)),
        ("/token/v1?tripId=t1&format=raw&format=raw", Err(R::RepeatedParameter)),
        ("/token/v1?tripId=t1&vehicleId=v2", Err(R::Disagree)),
        ("/token/v1?tripId=t1&vehicleId=", Err(R::Disagree)),
        ("/token/v1?tripId=t1&format=xml", Err(R::Format)),
        ("/token/v1?tripId=t1&format=", Err(R::Format)),
        ("/token/v1?tripId=t1&format=RAW", Err(R::Format)),
        ("/token/v1?tripId=t1&taskId=x", Err(R::UnknownParameter)),
        ("/token/v1?tripId=t1&TripId=x", Err(R::UnknownParameter)),
        ("/token/v1?tripId=t1&trip%49d=x", Err(R::UnknownParameter)),
        ("/token/v1?tripId=t1&=x", Err(R::UnknownParameter)),
        ("/token/v1?tripId=t1;vehicleId=v1", Err(R::MalformedParameter)),
        ("/token/v1?alt=json&tripId=t1", Err(R::UnknownParameter)),
    ] {
        assert_eq!(asked(target).as_deref(), became.as_ref().map(|text| &**text), "{target}");
    }
    let many: String = (0..1000).map(|number| format!("&p{number}=x")).collect();
    assert_eq!(asked(&format!("/token/v1?tripId=t1{many}")), Err(R::UnknownParameter));
}

#[test]
fn a_quarter_of_the_life_is_left_by_default_and_never_more_than_a_quarter_of_an_hour() {
    for (lifetime, left) in [(3600, 900), (600, 150), (120, 30), (86_400, 900)] {
        assert_eq!(Entry::default_life(Duration::from_secs(lifetime)).as_secs(), left);
    }
}
