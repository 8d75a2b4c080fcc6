(module
  (memory (export "memory") 1)
  (func (export "answer-text") (param $who i32) (param $step i32) (result i32) (i32.const {{AREA}})))
