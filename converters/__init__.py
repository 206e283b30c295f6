"""The workshop: a trained network becomes a bundle, or is refused with the reason.

`conversion.convert(job, target)` is the whole of it:

    onnx, paddle         read a network from outside (pdiparams: PaddlePaddle's weights)
    family               networks whose contract is known
    graph                an ONNX graph that can be edited
    head                 one person logit out
    rewrites, channels   float-exact changes, so that what is left quantizes well
    targets              what each target makes of it, float and int8:
      tflite, scales, moves     LiteRT: scales widened, moving operators kept in integers
      openvino                  Intel
      qdq                       ONNX with Q/DQ pairs, for TensorRT and ONNX Runtime
    guards, reference    checks against the network as it came
    gate, judging        quality against float: passed or refused
    causes, layers       why one collapsed
    environment          tools that clash with everything else, in environments of their own
"""
