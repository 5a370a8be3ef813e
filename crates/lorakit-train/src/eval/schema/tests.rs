use serde_json::{Value, json};

use super::Schema;

/// Schemas and values with the verdicts of the Python library `jsonschema`.
#[test]
fn verdicts_are_those_of_jsonschema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/eval/schemas.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut judged = 0;
    for case in golden["cases"].as_array().unwrap() {
        let schema = Schema::new(&case["schema"]).unwrap();
        for value in case["values"].as_array().unwrap() {
            let why = schema.failure(&value["value"]);
            let told = format!("{} with {}: {why:?}", case["schema"], value["value"]);
            assert_eq!(why.is_none(), value["valid"] == true, "{told}");
            judged += 1;
        }
    }
    assert!(judged > 150, "{judged}");
}

#[test]
fn reasons_name_the_place() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "quantity": {"type": "integer", "minimum": 1},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2, "uniqueItems": true},
            "next": {"$ref": "#"},
        },
        "required": ["name"],
        "additionalProperties": false,
    });
    let schema = Schema::new(&schema).unwrap();
    let values = [
        json!([]),
        json!({}),
        json!({"name": ""}),
        json!({"name": 3}),
        json!({"name": "x", "quantity": 0}),
        json!({"name": "x", "quantity": 1.5}),
        json!({"name": "x", "tags": ["a", "c"]}),
        json!({"name": "x", "tags": ["a", "b", "a"]}),
        json!({"name": "x", "next": {"name": "y", "next": {"nam": "z"}}}),
        json!({"name": "x", "price": 1}),
    ];
    let told: Vec<String> = values.iter().map(|value| schema.failure(value).unwrap()).collect();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(schema.failure(&json!({"name": "x", "next": {"name": "y"}, "quantity": 1.0})), None);
}

#[test]
fn what_is_not_in_the_subset_is_refused() {
    let refused = [
        json!(3),
        json!({"dependentRequired": {"a": ["b"]}}),
        json!({"properties": {"a": {"contains": {"type": "integer"}}}}),
        json!({"type": "text"}),
        json!({"required": "a"}),
        json!({"minimum": "1"}),
        json!({"multipleOf": 0}),
        json!({"maxItems": -1}),
        json!({"pattern": "["}),
        json!({"$ref": "other.json"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"items": [{"type": "integer"}]}),
    ];
    let told: Vec<String> =
        refused.iter().map(|schema| Schema::new(schema).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(told.join("\n"));
}

/// Neither ends: reading it must, and so must judging by it.
#[test]
fn schemas_that_refer_to_themselves() {
    let own = Schema::new(&json!({"$ref": "#"})).unwrap();
    assert!(own.failure(&json!(1)).unwrap().contains("without end"));
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "not": deep });
    }
    assert!(Schema::new(&deep).unwrap_err().to_string().contains("64"));
}
