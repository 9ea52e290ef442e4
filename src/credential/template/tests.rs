//! Claims as their readers want them.

use super::*;

fn parameters(pairs: &[(&str, &str)], template: &Template) -> Parameters {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Parameters::new(pairs, &template.parameters()).unwrap()
}

#[test]
fn every_preset_says_exactly_what_its_reader_wants() {
    const FLEET: &str = "https://fleetengine.googleapis.com/";
    let account = Some("driver@p.iam.gserviceaccount.com");
    for (name, given, authorization) in [
        ("fleetEngineDriver", &[("vehicleId", "v1")][..], json!({"vehicleid": "v1"})),
        ("fleetEngineConsumer", &[("tripId", "t1")], json!({"tripid": "t1"})),
        ("fleetEngineServer", &[], json!({"tripid": "*", "vehicleid": "*"})),
        (
            "fleetEngineReader",
            &[],
            json!({"tripid": "*", "vehicleid": "*", "taskid": "*", "trackingid": "*", "deliveryvehicleid": "*"}),
        ),
        ("fleetEngineDeliveryDriver", &[("deliveryVehicleId", "d1")], json!({"deliveryvehicleid": "d1"})),
        ("fleetEngineDeliveryConsumer", &[("trackingId", "s1")], json!({"trackingid": "s1"})),
        ("fleetEngineDeliveryServer", &[], json!({"taskid": "*", "trackingid": "*", "deliveryvehicleid": "*"})),
    ] {
        let template = Preset::named(name).unwrap().template();
        let claims = template.claims(&parameters(given, &template), account, 1_700_000_010);
        let expected = json!({
            "iss": account, "sub": account, "aud": FLEET, "iat": 1_700_000_000, "exp": 1_700_003_600,
            "authorization": authorization,
        });
        assert_eq!(Value::Object(claims), expected, "{name}");
        assert!(template.needs_key_id);
        assert_eq!(template.longest(), HOUR);
    }
    assert_eq!(Preset::names().count(), 8);
}

#[test]
fn a_device_says_its_project_and_the_time_and_nothing_else() {
    let mut template = Preset::named("iotDevice").unwrap().template();
    template.audience = "my-project".to_owned();
    template.lifetime = DAY;
    let claims = template.claims(&Parameters::none(), Some("robot@p"), 100);
    assert_eq!(Value::Object(claims), json!({"aud": "my-project", "iat": 90, "exp": 90 + 86_400}));
    assert_eq!((template.key_id.as_deref(), template.needs_key_id, template.longest()), (Some(""), false, DAY));
}

#[test]
fn parameters_stand_anywhere_in_a_text_and_other_values_keep_their_type() {
    let claims = json!({
        "path": "projects/{project}/devices/{device}", "list": ["{device}", 3], "deep": {"er": {"x": "{project}"}},
        "ut": 3, "on": true, "plain": "a b",
    });
    let Value::Object(claims) = claims else { unreachable!() };
    let template =
        Template { claims, issuer: Some("me".to_owned()), subject: Some(String::new()), ..Template::new("a") };
    assert_eq!(template.parameters(), ["device", "project"]);
    let given = parameters(&[("project", "p"), ("device", "d-1")], &template);
    let expected = json!({
        "path": "projects/p/devices/d-1", "list": ["d-1", 3], "deep": {"er": {"x": "p"}}, "ut": 3, "on": true,
        "plain": "a b", "iss": "me", "aud": "a", "iat": 0, "exp": 3600,
    });
    assert_eq!(Value::Object(template.claims(&given, Some("robot@p"), 10)), expected);
}

#[test]
fn braces_surround_names_only() {
    for good in ["", "x", "{a}", "a{b}c{d_1}", "{a}{b}"] {
        assert_eq!(check_text(good), Ok(()), "{good}");
    }
    for bad in ["{", "}", "{}", "a}b", "{a b}", "{a", "{{a}}", "{a-b}", "{ä}"] {
        assert!(check_text(bad).is_err(), "{bad}");
    }
}
