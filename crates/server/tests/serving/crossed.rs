//! A crossed feature is no part of what clients send: neither protocol describes it, asks for it or takes it.

use gatefold_proto::{inference, ranking::v1 as wire};
use inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tonic::Code;

use crate::inference as tensors;
use crate::support::{Running, eventually, formula, publish, request};

#[tokio::test(flavor = "multi_thread")]
async fn clients_send_the_parts_of_a_crossed_feature_alone() {
    let running = Running::start(|_| {}).await;
    let mut client = running.client().await;
    publish(running.folder.path(), "crossed", 0.0);
    let wanted = wire::GetModelRequest { model: "crossed".into(), ..wire::GetModelRequest::default() };
    eventually(async || client.get_model(wanted.clone()).await.is_ok()).await;
    let model = client.get_model(wanted).await.unwrap().into_inner();
    let names: Vec<&str> = model.features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["age", "recent", "country", "item_id", "price"]);

    let mut asked = request(&[20.0, 50.0]);
    asked.model = "crossed".into();
    let reply = client.score(asked.clone()).await.unwrap().into_inner();
    assert_eq!(reply.outputs[0].scores, [20.0, 50.0].map(|price| formula(31.0, price, 0.0)[0]));
    let mut column = asked.items[0].clone();
    column.name = "country_x_item".into();
    asked.items.push(column);
    let error = client.score(asked).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let expected =
        "feature 'country_x_item' is made of 'country' and 'item_id' wherever it is needed; remove it";
    assert!(error.message().contains(expected), "{}", error.message());

    let mut client = GrpcInferenceServiceClient::new(running.channel().await);
    let asked = inference::ModelMetadataRequest { name: "crossed".into(), version: String::new() };
    let model = client.model_metadata(asked).await.unwrap().into_inner();
    assert!(model.inputs.iter().map(|input| input.name.as_str()).eq(names), "{:?}", model.inputs);
    let asked = inference::ModelConfigRequest { name: "crossed".into(), version: String::new() };
    let config = client.model_config(asked).await.unwrap().into_inner().config.unwrap();
    assert!(config.input.iter().all(|input| !input.name.starts_with("country_x_item")), "{:?}", config.input);

    let mut asked = tensors::request(&[20.0, 50.0]);
    asked.model_name = "crossed".into();
    client.model_infer(asked.clone()).await.unwrap();
    asked.inputs.push(tensors::input("country_x_item", "BYTES", &[2], tensors::texts(&["a", "b"])));
    let error = client.model_infer(asked).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let expected =
        "input 'country_x_item': is made of country and item_id wherever it is needed: leave it out";
    assert!(error.message().contains(expected), "{}", error.message());
}
