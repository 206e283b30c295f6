"""The workshop: a trained network becomes a bundle, or is refused with the reason.

`conversion.convert(job, target)` is the whole of it:

    onnx, paddle         read a network from outside (pdiparams: PaddlePaddle's weights)
    family               networks whose contract is known
    graph, ort           an ONNX graph that can be edited; one run in ONNX Runtime
    head                 one person logit out
    rewrites             float-exact changes, so that what is left quantizes well:
      folding, channels         into the weights of convolutions
      activations, pools, slices    as what converters and integer kernels take
    targets              what each target makes of it, float and int8:
      tflite, scales, moves     LiteRT: scales widened, moving operators kept in integers
      norms                     what of it stays in float
      flatbuffer                a TFLite file taken apart
      openvino                  Intel
      qdq                       ONNX with Q/DQ pairs, for TensorRT and ONNX Runtime
    guards, reference    checks against the network as it came
    gate, judging        quality against float: passed or refused
    causes, layers       why one collapsed
    environment, words   tools that clash with everything else, in environments of their own;
                         what they and other libraries say
"""
