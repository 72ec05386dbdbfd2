define internal void @gemm_tile.tiles(ptr noalias readonly %in0, ptr noalias readonly %in1, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  %a0.0 = alloca <16 x float>
  %a0.1 = alloca <16 x float>
  %v1 = icmp slt i64 %first, %last
  br i1 %v1, label %body0, label %exit0
body0:
  %r0 = phi i64 [ %first, %entry ], [ %next0, %latch0 ]
  %v2 = mul i64 %r0, 64
  %v3 = mul i64 %r0, 16
  br label %body4
body4:
  %r4 = phi i64 [ 0, %body0 ], [ %next4, %latch4 ]
  %v5 = mul i64 %r4, 16
  %v6 = add i64 %v2, %v5
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a0.0
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a0.1
  br label %body7
body7:
  %r7 = phi i64 [ 0, %body4 ], [ %next7, %latch7 ]
  %v8 = add i64 %v3, %r7
  %v9 = getelementptr float, ptr %in0, i64 %v8
  %v10 = load float, ptr %v9, align 4
  %v11 = mul i64 %r7, 32
  %v12 = add i64 %v5, %v11
  %v13 = getelementptr float, ptr %in1, i64 %v12
  %v14 = load <16 x float>, ptr %v13, align 4
  %v15 = insertelement <16 x float> poison, float %v10, i64 0
  %v16 = shufflevector <16 x float> %v15, <16 x float> poison, <16 x i32> zeroinitializer
  %v17 = load <16 x float>, ptr %a0.0
  %v18 = call <16 x float> @llvm.fma.v16f32(<16 x float> %v16, <16 x float> %v14, <16 x float> %v17)
  store <16 x float> %v18, ptr %a0.0
  %v19 = add i64 %v8, 8
  %v20 = getelementptr float, ptr %in0, i64 %v19
  %v21 = load float, ptr %v20, align 4
  %v22 = insertelement <16 x float> poison, float %v21, i64 0
  %v23 = shufflevector <16 x float> %v22, <16 x float> poison, <16 x i32> zeroinitializer
  %v24 = load <16 x float>, ptr %a0.1
  %v25 = call <16 x float> @llvm.fma.v16f32(<16 x float> %v23, <16 x float> %v14, <16 x float> %v24)
  store <16 x float> %v25, ptr %a0.1
  br label %latch7
latch7:
  %next7 = add nuw nsw i64 %r7, 1
  %v26 = icmp slt i64 %next7, 8
  br i1 %v26, label %body7, label %exit7
exit7:
  %v27 = load <16 x float>, ptr %a0.0
  %v28 = getelementptr float, ptr %out, i64 %v6
  store <16 x float> %v27, ptr %v28, align 4
  %v29 = add i64 %v6, 32
  %v30 = load <16 x float>, ptr %a0.1
  %v31 = getelementptr float, ptr %out, i64 %v29
  store <16 x float> %v30, ptr %v31, align 4
  br label %latch4
latch4:
  %next4 = add nuw nsw i64 %r4, 1
  %v32 = icmp slt i64 %next4, 2
  br i1 %v32, label %body4, label %exit4
exit4:
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v33 = icmp slt i64 %next0, %last
  br i1 %v33, label %body0, label %exit0
exit0:
  ret void
}
define void @gemm_tile(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %buffers, i64 2
  %b2 = load ptr, ptr %p2
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @gemm_tile.tiles(ptr %b1, ptr %b2, ptr %b0, i64 %first, i64 %last)
  ret void
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
