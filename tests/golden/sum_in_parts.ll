define internal void @sum_in_parts.tiles(ptr noalias readonly %in0, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  %a0.0 = alloca <16 x float>
  %a1.0 = alloca <16 x float>
  %v1 = icmp slt i64 %first, %last
  br i1 %v1, label %body0, label %exit0
body0:
  %r0 = phi i64 [ %first, %entry ], [ %next0, %latch0 ]
  %v2 = mul i64 %r0, 19
  %v3 = mul i64 %r0, -76
  %v4 = add i64 %v3, 301
  %v5 = icmp slt i64 %v4, 76
  %v6 = select i1 %v5, i64 %v4, i64 76
  %v7 = mul i64 %r0, 1444
  br label %body8
body8:
  %r8 = phi i64 [ 0, %body0 ], [ %next8, %latch8 ]
  %v9 = icmp slt i64 %r8, 1
  %v10 = zext i1 %v9 to i64
  %v11 = mul i64 %r8, 16
  %v12 = add i64 %v2, %v11
  %v13 = add i64 %v7, %v11
  %v15 = icmp ne i64 %v10, 0
  br i1 %v15, label %body14, label %exit14
body14:
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a0.0
  %v17 = icmp slt i64 0, %v6
  br i1 %v17, label %body16, label %exit16
body16:
  %r16 = phi i64 [ 0, %body14 ], [ %next16, %latch16 ]
  %v18 = mul i64 %r16, 19
  %v19 = add i64 %v13, %v18
  %v20 = getelementptr float, ptr %in0, i64 %v19
  %v21 = load <16 x float>, ptr %v20, align 4
  %v22 = load <16 x float>, ptr %a0.0
  %v23 = fadd <16 x float> %v22, %v21
  store <16 x float> %v23, ptr %a0.0
  br label %latch16
latch16:
  %next16 = add nuw nsw i64 %r16, 1
  %v24 = icmp slt i64 %next16, %v6
  br i1 %v24, label %body16, label %exit16
exit16:
  %v25 = load <16 x float>, ptr %a0.0
  %v26 = getelementptr float, ptr %out, i64 %v12
  store <16 x float> %v25, ptr %v26, align 4
  br label %exit14
exit14:
  %v27 = xor i1 %v9, true
  %v28 = zext i1 %v27 to i64
  %v29 = mul i64 %r8, -16
  %v30 = add i64 %v29, 19
  %v31 = insertelement <16 x i64> poison, i64 %v30, i64 0
  %v32 = shufflevector <16 x i64> %v31, <16 x i64> poison, <16 x i32> zeroinitializer
  %v33 = icmp slt <16 x i64> <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i64 8, i64 9, i64 10, i64 11, i64 12, i64 13, i64 14, i64 15>, %v32
  %v35 = icmp ne i64 %v28, 0
  br i1 %v35, label %body34, label %exit34
body34:
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a1.0
  %v37 = icmp slt i64 0, %v6
  br i1 %v37, label %body36, label %exit36
body36:
  %r36 = phi i64 [ 0, %body34 ], [ %next36, %latch36 ]
  %v38 = mul i64 %r36, 19
  %v39 = add i64 %v13, %v38
  %v40 = getelementptr float, ptr %in0, i64 %v39
  %v41 = call <16 x float> @llvm.masked.load.v16f32.p0(ptr %v40, i32 4, <16 x i1> %v33, <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>)
  %v42 = load <16 x float>, ptr %a1.0
  %v43 = fadd <16 x float> %v42, %v41
  store <16 x float> %v43, ptr %a1.0
  br label %latch36
latch36:
  %next36 = add nuw nsw i64 %r36, 1
  %v44 = icmp slt i64 %next36, %v6
  br i1 %v44, label %body36, label %exit36
exit36:
  %v45 = load <16 x float>, ptr %a1.0
  %v46 = getelementptr float, ptr %out, i64 %v12
  call void @llvm.masked.store.v16f32.p0(<16 x float> %v45, ptr %v46, i32 4, <16 x i1> %v33)
  br label %exit34
exit34:
  br label %latch8
latch8:
  %next8 = add nuw nsw i64 %r8, 1
  %v47 = icmp slt i64 %next8, 2
  br i1 %v47, label %body8, label %exit8
exit8:
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v48 = icmp slt i64 %next0, %last
  br i1 %v48, label %body0, label %exit0
exit0:
  ret void
}
define void @sum_in_parts(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @sum_in_parts.tiles(ptr %b1, ptr %b0, i64 %first, i64 %last)
  ret void
}
declare <16 x float> @llvm.masked.load.v16f32.p0(ptr, i32 immarg, <16 x i1>, <16 x float>)
declare void @llvm.masked.store.v16f32.p0(<16 x float>, ptr, i32 immarg, <16 x i1>)
define internal void @sum_in_parts_combine.tiles(ptr noalias readonly %in1, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  %a0.0 = alloca <16 x float>
  %a1.0 = alloca <16 x float>
  br label %body0
body0:
  %r0 = phi i64 [ 0, %entry ], [ %next0, %latch0 ]
  %v1 = icmp slt i64 %r0, 1
  %v2 = zext i1 %v1 to i64
  %v3 = mul i64 %r0, 16
  %v5 = icmp ne i64 %v2, 0
  br i1 %v5, label %body4, label %exit4
body4:
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a0.0
  br label %body6
body6:
  %r6 = phi i64 [ 0, %body4 ], [ %next6, %latch6 ]
  %v7 = mul i64 %r6, 19
  %v8 = add i64 %v3, %v7
  %v9 = getelementptr float, ptr %in1, i64 %v8
  %v10 = load <16 x float>, ptr %v9, align 4
  %v11 = load <16 x float>, ptr %a0.0
  %v12 = fadd <16 x float> %v11, %v10
  store <16 x float> %v12, ptr %a0.0
  br label %latch6
latch6:
  %next6 = add nuw nsw i64 %r6, 1
  %v13 = icmp slt i64 %next6, 4
  br i1 %v13, label %body6, label %exit6
exit6:
  %v14 = load <16 x float>, ptr %a0.0
  %v15 = call <16 x float> @llvm.sqrt.v16f32(<16 x float> %v14)
  %v16 = getelementptr float, ptr %out, i64 %v3
  store <16 x float> %v15, ptr %v16, align 4
  br label %exit4
exit4:
  %v17 = xor i1 %v1, true
  %v18 = zext i1 %v17 to i64
  %v19 = mul i64 %r0, -16
  %v20 = add i64 %v19, 19
  %v21 = insertelement <16 x i64> poison, i64 %v20, i64 0
  %v22 = shufflevector <16 x i64> %v21, <16 x i64> poison, <16 x i32> zeroinitializer
  %v23 = icmp slt <16 x i64> <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i64 8, i64 9, i64 10, i64 11, i64 12, i64 13, i64 14, i64 15>, %v22
  %v25 = icmp ne i64 %v18, 0
  br i1 %v25, label %body24, label %exit24
body24:
  store <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>, ptr %a1.0
  br label %body26
body26:
  %r26 = phi i64 [ 0, %body24 ], [ %next26, %latch26 ]
  %v27 = mul i64 %r26, 19
  %v28 = add i64 %v3, %v27
  %v29 = getelementptr float, ptr %in1, i64 %v28
  %v30 = call <16 x float> @llvm.masked.load.v16f32.p0(ptr %v29, i32 4, <16 x i1> %v23, <16 x float> <float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000, float 0x0000000000000000>)
  %v31 = load <16 x float>, ptr %a1.0
  %v32 = fadd <16 x float> %v31, %v30
  store <16 x float> %v32, ptr %a1.0
  br label %latch26
latch26:
  %next26 = add nuw nsw i64 %r26, 1
  %v33 = icmp slt i64 %next26, 4
  br i1 %v33, label %body26, label %exit26
exit26:
  %v34 = load <16 x float>, ptr %a1.0
  %v35 = call <16 x float> @llvm.sqrt.v16f32(<16 x float> %v34)
  %v36 = getelementptr float, ptr %out, i64 %v3
  call void @llvm.masked.store.v16f32.p0(<16 x float> %v35, ptr %v36, i32 4, <16 x i1> %v23)
  br label %exit24
exit24:
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v37 = icmp slt i64 %next0, 2
  br i1 %v37, label %body0, label %exit0
exit0:
  ret void
}
define void @sum_in_parts_combine(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p2 = getelementptr ptr, ptr %buffers, i64 2
  %b2 = load ptr, ptr %p2
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @sum_in_parts_combine.tiles(ptr %b2, ptr %b0, i64 %first, i64 %last)
  ret void
}
declare <16 x float> @llvm.sqrt.v16f32(<16 x float>)
